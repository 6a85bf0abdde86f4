//! The run file: one run, one append-only file of JSON lines, readable by its owner alone.
//!
//! Each line begins with `"chain"`: SHA-256 over the chain of the line before and the rest of this one.
//! That finds damage. It proves nothing about who wrote the file.

use crate::journal::Journal;
use salve_core::digest;
use salve_core::journal::{Entry, FORMAT};
use salve_core::sanitize::sanitized;
use serde::Deserialize;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A run file that is being written.
pub struct RunFile {
    path: PathBuf,
    disk: Box<dyn Disk>,
    chain: String,
    broken: bool,
}

/// Where the bytes of a run file go.
pub trait Disk: Send {
    /// Appends them all. After this they survive the process.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// After this everything that was appended survives the machine.
    fn sync(&mut self) -> io::Result<()>;
}

impl Disk for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        // mutant run-file-not-synced: self.sync_data() ~> Ok(())
        self.sync_data()
    }
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
        lock(&file, &path)?;
        Ok(Self { path, ..Self::over(Box::new(file)) })
    }

    /// A new file on this disk.
    pub fn over(disk: Box<dyn Disk>) -> Self {
        Self { path: PathBuf::new(), disk, chain: BEGINNING.into(), broken: false }
    }

    /// Opens the file of a run whose process has died, to go on with it. A torn last line is cut off.
    ///
    /// # Errors
    /// `WouldBlock` while a process is at work on it; what [`RunFile::read`] says of damage.
    pub fn take_up(path: &Path) -> io::Result<(Self, Vec<Entry>)> {
        let mut file = OpenOptions::new().read(true).append(true).open(path)?;
        // mutant locked-run-file-opened: lock(&file, path)? ~> let _ = lock(&file, path)
        lock(&file, path)?;
        let read = Read::all(&mut BufReader::new(&file), path)?;
        if file.stream_position()? != read.length || file.metadata()?.len() != read.length {
            // mutant intact-line-cut: length ~> length.saturating_sub(1)
            // mutant torn-line-kept: file.set_len(read.length)? ~> let _ = read.length
            file.set_len(read.length)?;
            file.sync_data()?;
        }
        Ok((
            Self { path: path.to_owned(), disk: Box::new(file), chain: read.chain, broken: false },
            read.entries,
        ))
    }

    /// Goes on on a disk that holds `written`.
    ///
    /// # Errors
    /// What [`RunFile::read`] says of damage; a torn last line is damage here.
    pub fn take_up_over(disk: Box<dyn Disk>, written: &[u8]) -> io::Result<(Self, Vec<Entry>)> {
        let read = Read::all(&mut &*written, Path::new("the record"))?;
        if read.length != written.len() as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the record ends in a torn line",
            ));
        }
        Ok((Self { path: PathBuf::new(), disk, chain: read.chain, broken: false }, read.entries))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the entries of a file.
    ///
    /// # Errors
    /// An unterminated last line is what a crash leaves and is dropped; any other damage is an error
    /// that names the line. So is a file of another format.
    pub fn read(path: &Path) -> io::Result<Vec<Entry>> {
        Ok(Read::all(&mut BufReader::new(File::open(path)?), path)?.entries)
    }

    /// Whether a process is at work on this file.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn is_at_work(path: &Path) -> io::Result<bool> {
        match File::open(path)?.try_lock_shared() {
            Ok(()) => Ok(false),
            // mutant run-file-lock-invisible: true ~> false
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn guarded(&mut self, write: impl FnOnce(&mut dyn Disk) -> io::Result<()>) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the run file failed before and takes nothing more"));
        }
        write(self.disk.as_mut()).inspect_err(|_| self.broken = true)
    }
}

impl std::fmt::Debug for RunFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Journal for RunFile {
    fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let body = serde_json::to_string(entry)?;
        let chain = link(&self.chain, &body);
        let line = format!("{HEAD}{chain}{NECK}{}\n", &body[1..]);
        self.guarded(|disk| disk.append(line.as_bytes()))?;
        self.chain = chain;
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        // mutant sync-does-nothing: self.guarded(|disk| disk.sync()) ~> Ok(())
        self.guarded(|disk| disk.sync())
    }
}

/// Held until the process ends: nobody else goes on with a run that is still at work.
fn lock(file: &File, path: &Path) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("{}: a process is at work on this run", path.display()),
        ),
        TryLockError::Error(error) => error,
    })
}

/// What a file holds: its whole lines, the last chain, and how many bytes they are.
struct Read {
    entries: Vec<Entry>,
    chain: String,
    length: u64,
}

/// As much of a first line as tells whether the rest can be read.
#[derive(Deserialize)]
struct Beginning {
    header: Form,
}

#[derive(Deserialize)]
struct Form {
    format: u32,
    #[serde(default)]
    salve: String,
}

impl Read {
    fn all(reader: &mut dyn BufRead, path: &Path) -> io::Result<Self> {
        let mut read = Self { entries: Vec::new(), chain: BEGINNING.to_owned(), length: 0 };
        let mut line = Vec::new();
        loop {
            line.clear();
            let bytes = reader.read_until(b'\n', &mut line)?;
            if bytes == 0 || line.pop() != Some(b'\n') {
                return Ok(read);
            }
            let damaged = |why: String| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    sanitized(&format!(
                        "{}, line {}: {why}",
                        path.display(),
                        read.entries.len() + 1
                    )),
                )
            };
            let text = std::str::from_utf8(&line).map_err(|e| damaged(e.to_string()))?;
            let (claimed, body) = unchained(text)
                .ok_or_else(|| damaged("it does not begin with its chain".into()))?;
            // mutant broken-hash-chain-accepted: != link(&read.chain, &body) ~> .len() !=
            //     link(&read.chain, &body).len()
            if claimed != link(&read.chain, &body) {
                return Err(damaged(
                    "it is not what was written here, or a line before it is missing".into(),
                ));
            }
            if read.entries.is_empty()
                && let Ok(Beginning { header: Form { format, salve } }) =
                    serde_json::from_str(&body)
                && format != FORMAT
            {
                return Err(damaged(format!(
                    "Salve {salve} wrote this in format {format}, this one reads format {FORMAT}"
                )));
            }
            let entry = serde_json::from_str(&body).map_err(|e| damaged(e.to_string()))?;
            claimed.clone_into(&mut read.chain);
            read.length += bytes as u64;
            read.entries.push(entry);
        }
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
    use salve_core::effect::{Effect, Local, run::Now};
    use salve_core::journal::{Done, Origin};
    use salve_core::outcome::Outcome;
    use std::os::unix::fs::PermissionsExt;

    fn entry(n: u64) -> Entry {
        let outcome = Outcome::Ok(serde_json::value::to_raw_value(&7).unwrap());
        Entry::Done(Box::new(Done {
            n,
            origin: Origin::Guest,
            at: 0,
            effect: Effect::Local(Local::Now(Now {})),
            outcome,
            denial: None,
            observed: None,
            from_plan: None,
        }))
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
        assert!(
            matches!(RunFile::read(file.path()).unwrap().as_slice(), [Entry::Done(d)] if d.n == 1)
        );
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
                    Ok(entries) => assert!(
                        at + 1 == whole.len() && entries.len() == 2,
                        "bit {bit} of byte {at}"
                    ),
                    Err(error) => assert!(error.to_string().contains("line "), "{error}"),
                }
            }
        }
    }

    #[test]
    fn a_file_of_another_format_is_refused_with_who_wrote_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let body = r#"{"header":{"format":1,"salve":"0.0.9","run":"7c1d"}}"#;
        std::fs::write(&path, format!("{HEAD}{}{NECK}{}\n", link(BEGINNING, body), &body[1..]))
            .unwrap();
        let error = RunFile::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("line 1") && error.contains("Salve 0.0.9 wrote this in format 1"),
            "{error}"
        );
    }

    #[test]
    fn an_entry_survives_its_process_without_a_sync() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RunFile::create(folder.path(), "a.jsonl").unwrap();
        file.append(&entry(1)).unwrap();
        // As a killed process does: nothing of it runs any more.
        std::mem::forget(file);
        assert_eq!(RunFile::read(&folder.path().join("a.jsonl")).unwrap().len(), 1);
    }

    #[test]
    fn a_file_is_taken_up_where_its_last_whole_line_ends_by_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let whole = written(folder.path(), 3);
        let path = folder.path().join("torn.jsonl");
        for cut in [whole.len(), whole.len() - 1, whole.len() - 40] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut file, entries) = RunFile::take_up(&path).unwrap();
            assert_eq!(RunFile::take_up(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert!(RunFile::is_at_work(&path).unwrap());
            file.append(&entry(9)).unwrap();
            drop(file);
            assert!(!RunFile::is_at_work(&path).unwrap());
            let lines = entries.len() + 1;
            assert_eq!(RunFile::read(&path).unwrap().len(), lines, "cut at {cut}");
            assert_eq!(lines, if cut == whole.len() { 4 } else { 3 });
        }
        let mut damaged = whole.clone();
        damaged[20] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert!(RunFile::take_up(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "what is damaged is left as it is");
    }

    /// Fails at the `at`th operation.
    struct Failing {
        operations: usize,
        at: usize,
    }

    impl Failing {
        fn next(&mut self) -> io::Result<()> {
            self.operations += 1;
            if self.operations == self.at { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }
        }
    }

    impl Disk for Failing {
        fn append(&mut self, _: &[u8]) -> io::Result<()> {
            self.next()
        }
        fn sync(&mut self) -> io::Result<()> {
            self.next()
        }
    }

    #[test]
    fn a_sync_asks_the_disk() {
        // A pipe has no disk, and the system says so.
        let (_reader, writer) = io::pipe().unwrap();
        assert!(Disk::sync(&mut File::from(std::os::fd::OwnedFd::from(writer))).is_err());
    }

    #[test]
    fn after_one_failure_nothing_more_is_taken() {
        for at in 1..=4 {
            let mut file = RunFile::over(Box::new(Failing { operations: 0, at }));
            let mut failed = false;
            for n in 0..3 {
                let (appended, synced) = (file.append(&entry(n)), file.sync());
                assert!(
                    !failed || appended.is_err() && synced.is_err(),
                    "it took something after operation {at} had failed"
                );
                failed |= appended.is_err() || synced.is_err();
            }
            assert!(failed);
        }
    }

    #[test]
    fn lines_that_are_dropped_doubled_or_swapped_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let text = String::from_utf8(written(folder.path(), 4)).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let damaged = folder.path().join("damaged");
        for wrong in
            [[0, 2, 3].as_slice(), &[1, 2, 3], &[0, 1, 1, 2, 3], &[0, 2, 1, 3], &[0, 1, 3, 2]]
        {
            std::fs::write(&damaged, wrong.iter().map(|i| lines[*i]).collect::<String>()).unwrap();
            assert!(RunFile::read(&damaged).is_err(), "{wrong:?}");
        }
    }
}
