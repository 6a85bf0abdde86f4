//! Components saved beside the run files, by digest, so that a run can be recovered and replayed
//! even if the component's original path changes.

use crate::output::CommandError;
use salve_core::digest;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Saves a component in the folder `runs`.
pub fn save(runs: &Path, digest: &str, component: &[u8]) -> Result<(), CommandError> {
    let path = component_path(runs, digest);
    // Another process may save the same component: the file appears only once it is complete.
    write(&path, component).map_err(|e| {
        CommandError::host(format!("failed to save the component to {}: {e}", path.display()))
    })
}

fn write(path: &Path, component: &[u8]) -> io::Result<()> {
    if std::fs::read(path).is_ok_and(|saved| saved == component) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(component)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

/// Loads the component with this digest.
///
/// # Errors
/// The component was not saved, or the file no longer has this digest.
pub fn load(runs: &Path, expected: &str) -> Result<Vec<u8>, CommandError> {
    let path = component_path(runs, expected);
    let saved = std::fs::read(&path).map_err(|e| {
        CommandError::document(format!(
            "failed to read the run's component {}: {e}",
            path.display()
        ))
    })?;
    if digest::of_bytes(&saved) != expected {
        return Err(CommandError::document(format!(
            "{}: the component no longer has the digest in its name",
            path.display()
        )));
    }
    Ok(saved)
}

/// Returns all saved components as (digest, path).
pub fn all(runs: &Path) -> Vec<(String, PathBuf)> {
    let files = std::fs::read_dir(runs.join(FOLDER))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let saved = files.filter(|path| path.extension().is_some_and(|e| e == "wasm"));
    saved.filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path))).collect()
}

const FOLDER: &str = "components";

fn component_path(runs: &Path, digest: &str) -> PathBuf {
    // A digest from an untrusted run file may contain path separators.
    let plain: String = digest.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    runs.join(FOLDER).join(plain).with_extension("wasm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_component_is_loaded_by_digest_unless_it_was_modified() {
        let runs = tempfile::tempdir().unwrap();
        let digest = digest::of_bytes(b"component");
        save(runs.path(), &digest, b"component").unwrap();
        save(runs.path(), &digest, b"component").unwrap();
        assert_eq!(load(runs.path(), &digest).unwrap(), b"component");
        assert_eq!(all(runs.path()).len(), 1);
        std::fs::write(component_path(runs.path(), &digest), b"another").unwrap();
        assert!(load(runs.path(), &digest).unwrap_err().to_string().contains("no longer"));
        assert!(load(runs.path(), "../../etc/passwd").is_err());
    }
}
