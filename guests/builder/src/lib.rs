//! Builds guests into components, for build scripts and tests. Needs only cargo and rustup.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// The target. It has no WASI, and the linker set below produces a component.
const TARGET: &str = "wasm32-unknown-unknown";

/// A cargo project that contains a guest.
#[derive(Clone, Debug)]
pub struct Project<'a> {
    /// The directory of `Cargo.toml`.
    pub root: &'a Path,
    pub package: &'a str,
    /// The cargo profile, such as `guest`.
    pub profile: &'a str,
}

impl Project<'_> {
    /// Builds the component into `target` and returns its path. No other cargo process may be using
    /// that directory.
    ///
    /// # Guarantees
    /// The same sources, toolchain, and lock file produce the same bytes in any directory.
    ///
    /// # Errors
    /// The target is missing and cannot be installed, or cargo failed. Cargo's own output is on
    /// stderr.
    pub fn component(&self, target: &Path) -> Result<PathBuf, String> {
        self.install_target()?;
        let remap =
            |path: &Path, name: &str| format!("--remap-path-prefix={}={name}", path.display());
        // The longest prefix comes last, because rustc uses the last match.
        let flags =
            [remap(&cargo_home(), "/cargo"), remap(self.root, "/salve"), remap(target, "/target")]
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
            // Replaces flags that were meant for the host, and keeps local paths out of the
            // component.
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .env_remove("RUSTFLAGS")
            // Set by clippy.
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .status()
            .map_err(|e| format!("failed to start cargo: {e}"))?;
        if !status.success() {
            return Err(format!(
                "failed to build guest {}: see the output of cargo above",
                self.package
            ));
        }
        Ok(target
            .join(TARGET)
            .join(self.profile)
            .join(format!("{}.wasm", self.package.replace('-', "_"))))
    }

    /// Installs the target if it is missing.
    fn install_target(&self) -> Result<(), String> {
        let rustc = env::var_os("RUSTC").unwrap_or("rustc".into());
        let output = Command::new(rustc)
            .current_dir(self.root)
            .args(["--print", "target-libdir", "--target", TARGET])
            .output();
        let folder = output.map_err(|e| format!("failed to start rustc: {e}"))?.stdout;
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
        Err(format!("guests need the target {TARGET}; run: rustup target add {TARGET}"))
    }
}

fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"))
}

/// Copies a project to another directory, without `target` and `.git`.
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
