//! The Go client as this machine has set it up: its proxy, its caches and its flags are left alone.

use std::path::Path;
use std::process::{Command, Stdio};

/// The oldest Go that the pinned modules build with.
const OLDEST: (u32, u32) = (1, 26);

/// Says in one line what is wrong with Go here, if something is. A Go that fetches newer ones by itself counts as what
/// it would fetch, which is why this asks in the folder of a module.
pub fn is_ready(module: &Path) -> Result<(), String> {
    let wanted = format!(
        "the control plane needs Go {}.{} or newer (https://go.dev/dl)",
        OLDEST.0, OLDEST.1
    );
    let output = Command::new("go")
        .args(["env", "GOVERSION"])
        .current_dir(module)
        .output()
        .map_err(|error| format!("{wanted}; running `go` failed: {error}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{wanted}; `go` says: {}", reason.trim().replace('\n', "; ")));
    }
    let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match version(&found) {
        Some(version) if version < OLDEST => Err(format!("{wanted}; here it is {found}")),
        // A development version has no number; the build will tell.
        Some(_) | None => Ok(()),
    }
}

/// Runs `go` in the folder of a module; what it prints is shown.
pub fn run(module: &Path, arguments: &[&str]) -> Result<(), String> {
    let status = Command::new("go")
        .args(arguments)
        // Nothing here needs C, and a C compiler is not asked for.
        .env("CGO_ENABLED", "0")
        .current_dir(module)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("running `go` failed: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "`go {}` failed in {} ({status}); its words stand above",
            arguments.join(" "),
            module.display()
        ))
    }
}

/// `go1.26.8` as (1, 26).
fn version(found: &str) -> Option<(u32, u32)> {
    let mut numbers = found.strip_prefix("go")?.split(['.', 'r', 'b', '-', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_whatever_follows_its_second_number() {
        assert_eq!(version("go1.26.8"), Some((1, 26)));
        assert_eq!(version("go1.27rc1"), Some((1, 27)));
        assert_eq!(version("devel go1.28-1234abcd"), None);
    }
}
