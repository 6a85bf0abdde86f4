//! Finds the browser that tests the HTML report, or installs it with Debian's package manager, and
//! writes its path to `target/browser`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Programs and the Debian packages that contain them.
const PROGRAMS: [(&str, &str); 2] = [("chromium", "chromium"), ("chromedriver", "chromium-driver")];

/// Finds or installs the programs and writes their paths.
pub fn find() -> Result<(), String> {
    let folder = crate::repository()?.join("target/browser");
    fs::create_dir_all(&folder)
        .map_err(|error| format!("failed to create {}: {error}", folder.display()))?;
    if PROGRAMS.iter().any(|(program, _)| on_path(program).is_none()) {
        install()?;
    }
    for (program, package) in PROGRAMS {
        let path = on_path(program).ok_or_else(|| {
            format!("`{program}` is not on the PATH; install it (Debian package: {package})")
        })?;
        let (file, path) = (folder.join(program), path.display().to_string());
        // Rewriting an unchanged file would rebuild the tests.
        if fs::read_to_string(&file).ok().as_ref() != Some(&path) {
            fs::write(&file, &path)
                .map_err(|error| format!("failed to write {}: {error}", file.display()))?;
        }
        println!("{program:<14} {path}");
    }
    Ok(())
}

fn install() -> Result<(), String> {
    let packages = PROGRAMS.map(|(_, package)| package);
    if on_path("apt-get").is_none() {
        return Err(format!(
            "Chromium and chromedriver must be on the PATH; install them (Debian packages: {})",
            packages.join(" ")
        ));
    }
    let steps: [&[&str]; 2] =
        [&["update", "--quiet"], &["install", "--quiet", "--yes", "--no-install-recommends"]];
    for (n, step) in steps.iter().enumerate() {
        let mut command = Command::new("apt-get");
        command
            .args(*step)
            .args(if n == 1 { &packages[..] } else { &[] })
            .env("DEBIAN_FRONTEND", "noninteractive");
        let status = command.status().map_err(|error| format!("failed to run apt-get: {error}"))?;
        if !status.success() {
            return Err(format!(
                "apt-get {} failed; install these packages as root: {}",
                step[0],
                packages.join(" ")
            ));
        }
    }
    Ok(())
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}
