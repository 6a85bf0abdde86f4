//! The run file: one run, one append-only file of JSON lines, readable by its owner alone.
//!
//! Each line begins with `"chain"`: SHA-256 over the chain of the line before and the rest of this one.
//! That finds damage. It proves nothing about who wrote the file.

use crate::journal::Journal;
use salve_core::digest;
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
    chain: String,
    broken: bool,
}

/// What the first line is chained to.
const BEGINNING: &str = "salve run file";
/// What stands before the chain in each line, and after it.
const HEAD: &str = "{\"chain\":\"";
const NECK: &str = "\",";

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
        // Held until the process ends: nobody else goes on with a run that is still at work.
        file.try_lock().map_err(|e| io::Error::new(io::ErrorKind::WouldBlock, format!("{}: {e}", path.display())))?;
        Ok(Self { path, out: BufWriter::new(file), chain: BEGINNING.into(), broken: false })
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
        let mut chain = BEGINNING.to_owned();
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 || line.pop() != Some(b'\n') {
                return Ok(entries);
            }
            let damaged = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}, line {}: {why}", path.display(), entries.len() + 1));
            let text = std::str::from_utf8(&line).map_err(|e| damaged(e.to_string()))?;
            let (claimed, body) = unchained(text).ok_or_else(|| damaged("it does not begin with its chain".into()))?;
            if claimed != link(&chain, &body) {
                return Err(damaged("it is not what was written here, or a line before it is missing".into()));
            }
            claimed.clone_into(&mut chain);
            entries.push(serde_json::from_str(&body).map_err(|e| damaged(e.to_string()))?);
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
        let body = serde_json::to_string(entry)?;
        let chain = link(&self.chain, &body);
        self.guarded(|out| writeln!(out, "{HEAD}{chain}{NECK}{}", &body[1..]))?;
        self.chain = chain;
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        self.guarded(|out| {
            out.flush()?;
            out.get_ref().sync_data()
        })
    }
}

fn link(before: &str, body: &str) -> String {
    digest::of_bytes(format!("{before}\n{body}").as_bytes())
}

/// A line's chain, and what it was without it.
fn unchained(line: &str) -> Option<(&str, String)> {
    let (chain, rest) = line.strip_prefix(HEAD)?.split_once(NECK)?;
    Some((chain, format!("{{{rest}")))
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

    fn written(folder: &Path, entries: u64) -> Vec<u8> {
        let mut file = RunFile::create(folder, "a.jsonl").unwrap();
        for n in 1..=entries {
            file.append(&entry(n)).unwrap();
        }
        file.sync().unwrap();
        std::fs::read(file.path()).unwrap()
    }

    #[test]
    fn cut_anywhere_it_is_read_up_to_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let whole = written(folder.path(), 5);
        let cut = folder.path().join("cut");
        for end in 0..=whole.len() {
            std::fs::write(&cut, &whole[..end]).unwrap();
            let lines = whole[..end].iter().filter(|b| **b == b'\n').count();
            assert_eq!(RunFile::read(&cut).unwrap().len(), lines, "cut at {end}");
        }
    }

    #[test]
    fn any_flipped_bit_of_a_whole_line_is_found_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let whole = written(folder.path(), 3);
        let damaged = folder.path().join("damaged");
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                std::fs::write(&damaged, &bytes).unwrap();
                // The last line feed alone is no damage: without it, the line is a torn one.
                match RunFile::read(&damaged) {
                    Ok(entries) => assert!(at + 1 == whole.len() && entries.len() == 2, "bit {bit} of byte {at}"),
                    Err(error) => assert!(error.to_string().contains("line "), "{error}"),
                }
            }
        }
    }

    #[test]
    fn lines_that_are_dropped_doubled_or_swapped_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let text = String::from_utf8(written(folder.path(), 4)).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let damaged = folder.path().join("damaged");
        for wrong in [[0, 2, 3].as_slice(), &[1, 2, 3], &[0, 1, 1, 2, 3], &[0, 2, 1, 3], &[0, 1, 3, 2]] {
            std::fs::write(&damaged, wrong.iter().map(|i| lines[*i]).collect::<String>()).unwrap();
            assert!(RunFile::read(&damaged).is_err(), "{wrong:?}");
        }
    }
}
