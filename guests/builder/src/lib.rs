//! Builds guests into components, from build scripts and tests. Needs cargo and rustup, and no other tool.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// Ends in a component because of the linker below, and brings no WASI.
const TARGET: &str = "wasm32-unknown-unknown";

/// A cargo project with a guest in it.
#[derive(Clone, Debug)]
pub struct Project<'a> {
    /// The folder of its `Cargo.toml`.
    pub root: &'a Path,
    /// The package.
    pub package: &'a str,
    /// The profile, e.g. `guest`.
    pub profile: &'a str,
}

impl Project<'_> {
    /// Builds the component into `target`, a folder that no other cargo holds the lock of.
    ///
    /// # Guarantees
    /// The same sources, toolchain and lock file give the same bytes in any folder.
    ///
    /// # Errors
    /// One line that says what to type where the compile target is missing and cannot be added; else
    /// that cargo failed, whose words are on stderr.
    pub fn component(&self, target: &Path) -> Result<PathBuf, String> {
        self.have_target()?;
        let name = |path: &Path, becomes: &str| {
            format!("--remap-path-prefix={}={becomes}", path.display())
        };
        // The longest match has to come last, for rustc takes the last that fits.
        let flags =
            [name(&cargo_home(), "/cargo"), name(self.root, "/salve"), name(target, "/target")]
                .join("\x1f");
        let status = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
            .current_dir(self.root)
            .args([
                "build",
                "--package",
                self.package,
                "--profile",
                self.profile,
                "--target",
                TARGET,
                "--locked",
            ])
            .arg("--target-dir")
            .arg(target)
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-component-ld")
            // In place of what was meant for the host. Folders are no part of what a component is.
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .env_remove("RUSTFLAGS")
            // Clippy's.
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .status()
            .map_err(|e| format!("cargo does not start: {e}"))?;
        if !status.success() {
            return Err(format!("the guest {} did not build: see above", self.package));
        }
        Ok(target
            .join(TARGET)
            .join(self.profile)
            .join(format!("{}.wasm", self.package.replace('-', "_"))))
    }

    /// A rustup that installs nothing by itself leaves the target out: add it.
    fn have_target(&self) -> Result<(), String> {
        let rustc = env::var_os("RUSTC").unwrap_or("rustc".into());
        let told = Command::new(rustc)
            .current_dir(self.root)
            .args(["--print", "target-libdir", "--target", TARGET])
            .output();
        let folder = told.map_err(|e| format!("rustc does not start: {e}"))?.stdout;
        if fs::read_dir(String::from_utf8_lossy(&folder).trim())
            .is_ok_and(|mut files| files.next().is_some())
        {
            return Ok(());
        }
        let mut rustup = Command::new("rustup");
        rustup.current_dir(self.root).args(["target", "add", TARGET]);
        if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
            rustup.arg("--toolchain").arg(toolchain);
        }
        if rustup.status().is_ok_and(|s| s.success()) {
            return Ok(());
        }
        Err(format!("guests need the compile target {TARGET}; type: rustup target add {TARGET}"))
    }
}

fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"))
}

/// Copies a project to another place, without what was built in it.
///
/// # Errors
/// Whatever the file system says.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to.join(&name))?;
        } else {
            fs::copy(entry.path(), to.join(&name))?;
        }
    }
    Ok(())
}
