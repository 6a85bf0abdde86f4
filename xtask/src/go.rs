//! Runs `go` with the machine's own settings: proxy, caches, and flags are not changed.

use std::path::Path;
use std::process::{Command, Stdio};

/// The oldest Go version that can build the pinned modules.
const MIN_VERSION: (u32, u32) = (1, 26);

/// Checks that Go is installed and new enough. Runs in the folder of a module, because a Go that
/// downloads newer toolchains counts as the toolchain that the module requires.
///
/// # Errors
/// What is wrong, in one line.
pub fn check(module: &Path) -> Result<(), String> {
    let required = format!(
        "the control plane needs Go {}.{} or newer (https://go.dev/dl)",
        MIN_VERSION.0, MIN_VERSION.1
    );
    let output = Command::new("go")
        .args(["env", "GOVERSION"])
        .current_dir(module)
        .output()
        .map_err(|error| format!("{required}; failed to run `go`: {error}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{required}; `go env` failed: {}", reason.trim().replace('\n', "; ")));
    }
    let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match version(&found) {
        Some(version) if version < MIN_VERSION => Err(format!("{required}; found {found}")),
        // A development version has no number: let the build decide.
        Some(_) | None => Ok(()),
    }
}

/// Runs `go` in the folder of a module. Its output is shown.
pub fn run(module: &Path, arguments: &[&str]) -> Result<(), String> {
    let status = Command::new("go")
        .args(arguments)
        // Nothing here needs C, so a C compiler is not required.
        .env("CGO_ENABLED", "0")
        // Large packages compile faster with fewer garbage collections.
        .env("GOGC", "400")
        .current_dir(module)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("failed to run `go`: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "`go {}` failed in {} ({status}); see its output above",
            arguments.join(" "),
            module.display()
        ))
    }
}

/// Parses `go1.26.8` as (1, 26).
fn version(found: &str) -> Option<(u32, u32)> {
    let mut numbers = found.strip_prefix("go")?.split(['.', 'r', 'b', '-', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_parsed_with_any_suffix_after_the_minor_number() {
        assert_eq!(version("go1.26.8"), Some((1, 26)));
        assert_eq!(version("go1.27rc1"), Some((1, 27)));
        assert_eq!(version("devel go1.28-1234abcd"), None);
    }
}
