//! The run file: one run, one append-only file of JSON lines, readable by its owner alone.

use crate::journal::Journal;
use salve_core::journal::Entry;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A run file that is being written.
#[derive(Debug)]
pub struct RunFile {
    path: PathBuf,
    out: BufWriter<File>,
    broken: bool,
}

impl RunFile {
    /// Makes a new file in `folder`, which is made too (mode 0700) where it is missing.
    ///
    /// # Errors
    /// Whatever the file system says; a file of that name is never written over.
    pub fn create(folder: &Path, name: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join(name);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        // The name itself has to survive, or a synced file could not be found again.
        File::open(folder)?.sync_all()?;
        Ok(Self { path, out: BufWriter::new(file), broken: false })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the entries of a file.
    ///
    /// An unterminated last line is what a crash leaves and is dropped; any other damage is an error
    /// that names the line.
    pub fn read(path: &Path) -> io::Result<Vec<Entry>> {
        let mut reader = BufReader::new(File::open(path)?);
        let mut entries = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 || !line.ends_with('\n') {
                return Ok(entries);
            }
            let entry = serde_json::from_str(&line)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}, line {}: {e}", path.display(), entries.len() + 1)))?;
            entries.push(entry);
        }
    }

    fn guarded(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the run file failed before and takes nothing more"));
        }
        write(&mut self.out).inspect_err(|_| self.broken = true)
    }
}

impl Journal for RunFile {
    fn append(&mut self, entry: &Entry) -> io::Result<()> {
        self.guarded(|out| {
            serde_json::to_writer(&mut *out, entry)?;
            out.write_all(b"\n")
        })
    }
    fn sync(&mut self) -> io::Result<()> {
        self.guarded(|out| {
            out.flush()?;
            out.get_ref().sync_data()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::effect::{Effect, Own, run::Now};
    use salve_core::journal::{Done, Origin};
    use salve_core::outcome::Outcome;
    use std::os::unix::fs::PermissionsExt;

    fn entry(n: u64) -> Entry {
        let outcome = Outcome::Ok(serde_json::value::to_raw_value(&7).unwrap());
        Entry::Done(Box::new(Done { n, origin: Origin::Guest, at: 0, effect: Effect::Own(Own::Now(Now {})), outcome, denial: None, prior: None }))
    }

    #[test]
    fn a_synced_entry_can_be_read_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("state/runs");
        let mut file = RunFile::create(&runs, "a.jsonl").unwrap();
        file.append(&entry(1)).unwrap();
        file.sync().unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&runs), mode(file.path())), (0o700, 0o600));
        assert!(matches!(RunFile::read(file.path()).unwrap().as_slice(), [Entry::Done(d)] if d.n == 1));
        assert!(RunFile::create(&runs, "a.jsonl").is_err(), "a run file is never written over");
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_other_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RunFile::create(folder.path(), "a.jsonl").unwrap();
        file.append(&entry(1)).unwrap();
        file.append(&entry(2)).unwrap();
        file.sync().unwrap();
        let whole = std::fs::read(file.path()).unwrap();
        let torn = folder.path().join("torn");
        std::fs::write(&torn, &whole[..whole.len() - 3]).unwrap();
        assert_eq!(RunFile::read(&torn).unwrap().len(), 1);
        let text = String::from_utf8(whole).unwrap().replacen("\"n\":1", "\"n\":x", 1);
        std::fs::write(&torn, text).unwrap();
        assert!(RunFile::read(&torn).unwrap_err().to_string().contains("line 1"));
    }
}
