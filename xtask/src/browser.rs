//! Finds the browser that looks at the page of a report, or has Debian's package manager install it, and notes in
//! `target/browser` where it is.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Programs, and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 2] = [("chromium", "chromium"), ("chromedriver", "chromium-driver")];

/// Notes where they are.
pub fn find() -> Result<(), String> {
    let notes = crate::repository()?.join("target/browser");
    fs::create_dir_all(&notes)
        .map_err(|error| format!("making {} failed: {error}", notes.display()))?;
    if PROGRAMS.iter().any(|(program, _)| on_path(program).is_none()) {
        install()?;
    }
    for (program, package) in PROGRAMS {
        let path = on_path(program).ok_or_else(|| {
            format!("`{program}` is not on the PATH; Debian has it in the package {package}")
        })?;
        let (note, path) = (notes.join(program), path.display().to_string());
        // A note that is written anew would build the stories anew.
        if fs::read_to_string(&note).ok().as_ref() != Some(&path) {
            fs::write(&note, &path)
                .map_err(|error| format!("writing {} failed: {error}", note.display()))?;
        }
        println!("{program:<14} {path}");
    }
    Ok(())
}

fn install() -> Result<(), String> {
    let packages = PROGRAMS.map(|(_, package)| package);
    if on_path("apt-get").is_none() {
        return Err(format!(
            "Chromium and its chromedriver have to be on the PATH; Debian's packages: {}",
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
        let status =
            command.status().map_err(|error| format!("running apt-get failed: {error}"))?;
        if !status.success() {
            return Err(format!(
                "apt-get {} failed; as root, install: {}",
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
