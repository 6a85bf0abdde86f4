//! Components kept beside the run files, by digest: what a run ran can be run again, whatever became of its path.

use crate::output::Failed;
use salve_core::digest;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Keeps a component beside the runs of this folder.
pub fn keep(runs: &Path, digest: &str, component: &[u8]) -> Result<(), Failed> {
    let path = place(runs, digest);
    // Others may keep it, too: the name appears once it is whole, and means this content alone.
    write(&path, component).map_err(|e| {
        Failed::host(format!("the component cannot be kept in {}: {e}", path.display()))
    })
}

fn write(path: &Path, component: &[u8]) -> io::Result<()> {
    if std::fs::read(path).is_ok_and(|kept| kept == component) {
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

/// The component of this digest.
///
/// # Errors
/// It was not kept, or is not what was kept.
pub fn find(runs: &Path, wanted: &str) -> Result<Vec<u8>, Failed> {
    let path = place(runs, wanted);
    let kept = std::fs::read(&path).map_err(|e| {
        Failed::document(format!(
            "the component of this run is not beside it: {}: {e}",
            path.display()
        ))
    })?;
    if digest::of_bytes(&kept) != wanted {
        return Err(Failed::document(format!(
            "{}: it is not the component of that digest any more",
            path.display()
        )));
    }
    Ok(kept)
}

/// All that are kept, by digest.
pub fn all(runs: &Path) -> Vec<(String, PathBuf)> {
    let files = std::fs::read_dir(runs.join(FOLDER))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let kept = files.filter(|path| path.extension().is_some_and(|e| e == "wasm"));
    kept.filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path))).collect()
}

const FOLDER: &str = "components";

fn place(runs: &Path, digest: &str) -> PathBuf {
    // A digest out of a stranger's file is no path.
    let plain: String = digest.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    runs.join(FOLDER).join(plain).with_extension("wasm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_by_its_digest_and_what_was_changed_is_not() {
        let runs = tempfile::tempdir().unwrap();
        let digest = digest::of_bytes(b"component");
        keep(runs.path(), &digest, b"component").unwrap();
        keep(runs.path(), &digest, b"component").unwrap();
        assert_eq!(find(runs.path(), &digest).unwrap(), b"component");
        assert_eq!(all(runs.path()).len(), 1);
        std::fs::write(place(runs.path(), &digest), b"another").unwrap();
        assert!(find(runs.path(), &digest).unwrap_err().to_string().contains("any more"));
        assert!(find(runs.path(), "../../etc/passwd").is_err());
    }
}
