//! The run file: one append-only file of JSON lines per run, readable only by its owner.
//!
//! Each line starts with `"chain"`: SHA-256 over the chain of the previous line and the rest of
//! this one. This detects damage. It does not prove who wrote the file.

use crate::journal::Journal;
use salve_core::digest;
use salve_core::journal::{Entry, FORMAT};
use salve_core::sanitize::sanitized;
use serde::Deserialize;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A run file that is being written.
pub struct RunFile {
    path: PathBuf,
    disk: Box<dyn Disk>,
    chain: String,
    is_broken: bool,
}

/// Where the bytes of a run file are written.
pub trait Disk: Send {
    /// Appends all bytes. Afterwards they survive a crash of the process.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Afterwards all appended bytes survive a crash of the machine.
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

/// The chain before the first line.
const INITIAL_CHAIN: &str = "salve run file";
/// The text before the chain in each line.
const BEFORE_CHAIN: &str = "{\"chain\":\"";
/// The text between the chain and the rest of the line.
const AFTER_CHAIN: &str = "\",";

impl RunFile {
    /// Creates a file in `folder`, and the folder (mode 0700) if it does not exist.
    ///
    /// # Errors
    /// A file of that name exists, or the file system reports an error.
    pub fn create(folder: &Path, name: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join(name);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        // The directory entry must survive as well, or a synced file could not be found again.
        File::open(folder)?.sync_all()?;
        lock(&file, &path)?;
        Ok(Self { path, ..Self::with_disk(Box::new(file)) })
    }

    /// Creates a new file on this disk.
    pub fn with_disk(disk: Box<dyn Disk>) -> Self {
        Self { path: PathBuf::new(), disk, chain: INITIAL_CHAIN.into(), is_broken: false }
    }

    /// Opens the file of a run whose process died, to continue it. Cuts off a torn last line.
    ///
    /// # Errors
    /// `WouldBlock` while another process runs it; else as [`RunFile::read`].
    pub fn resume(path: &Path) -> io::Result<(Self, Vec<Entry>)> {
        let mut file = OpenOptions::new().read(true).append(true).open(path)?;
        // mutant locked-run-file-opened: lock(&file, path)? ~> let _ = lock(&file, path)
        lock(&file, path)?;
        let content = Content::read(&mut BufReader::new(&file), path)?;
        if file.stream_position()? != content.length || file.metadata()?.len() != content.length {
            // mutant intact-line-cut: length ~> length.saturating_sub(1)
            // mutant torn-line-kept: file.set_len(content.length)? ~> let _ = content.length
            file.set_len(content.length)?;
            file.sync_data()?;
        }
        let path = path.to_owned();
        let disk = Box::new(file);
        Ok((Self { path, disk, chain: content.chain, is_broken: false }, content.entries))
    }

    /// Continues a file that contains `written` on this disk.
    ///
    /// # Errors
    /// As [`RunFile::read`]. A torn last line is damage here.
    pub fn resume_with_disk(disk: Box<dyn Disk>, written: &[u8]) -> io::Result<(Self, Vec<Entry>)> {
        let content = Content::read(&mut &*written, Path::new("the run file"))?;
        if content.length != written.len() as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the run file ends in a torn line",
            ));
        }
        let path = PathBuf::new();
        Ok((Self { path, disk, chain: content.chain, is_broken: false }, content.entries))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the entries of a file. Drops an unterminated last line, which a crash leaves.
    ///
    /// # Errors
    /// Other damage, with its line, or a file of another format.
    pub fn read(path: &Path) -> io::Result<Vec<Entry>> {
        Ok(Content::read(&mut BufReader::new(File::open(path)?), path)?.entries)
    }

    /// Reads only the first entry of a file. None if a crash left no complete line.
    ///
    /// # Errors
    /// See [`RunFile::read`].
    pub fn read_first(path: &Path) -> io::Result<Option<Entry>> {
        let mut line = Vec::new();
        BufReader::new(File::open(path)?).read_until(b'\n', &mut line)?;
        Ok(Content::read(&mut line.as_slice(), path)?.entries.pop())
    }

    /// Returns whether a process is running this run.
    ///
    /// # Errors
    /// The file system reports an error.
    pub fn is_running(path: &Path) -> io::Result<bool> {
        match File::open(path)?.try_lock_shared() {
            Ok(()) => Ok(false),
            // mutant run-file-lock-invisible: true ~> false
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn guarded(&mut self, write: impl FnOnce(&mut dyn Disk) -> io::Result<()>) -> io::Result<()> {
        if self.is_broken {
            return Err(io::Error::other("no more entries are written after an earlier error"));
        }
        write(self.disk.as_mut()).inspect_err(|_| self.is_broken = true)
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
        let line = format!("{BEFORE_CHAIN}{chain}{AFTER_CHAIN}{}\n", &body[1..]);
        self.guarded(|disk| disk.append(line.as_bytes()))?;
        self.chain = chain;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        // mutant sync-does-nothing: self.guarded(|disk| disk.sync()) ~> Ok(())
        self.guarded(|disk| disk.sync())
    }
}

/// How often the lock is tried while only listings of the runs have it.
const LOCK_ATTEMPTS: u32 = 5_000;
/// Time between two attempts. A listing has the lock for microseconds.
const LOCK_INTERVAL: Duration = Duration::from_millis(1);

/// Locks the file until the process ends, so that no other process continues the run.
fn lock(file: &File, path: &Path) -> io::Result<()> {
    lock_after(file, path, || std::thread::sleep(LOCK_INTERVAL))
}

/// Locks the file. Calls `wait` between two attempts while only shared locks are in the way, which
/// [`RunFile::is_running`] takes for a moment.
fn lock_after(file: &File, path: &Path, mut wait: impl FnMut()) -> io::Result<()> {
    let would_block =
        |who: &str| io::Error::new(io::ErrorKind::WouldBlock, format!("{}: {who}", path.display()));
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        match file.try_lock_shared() {
            // mutant listing-blocks-run: file.unlock()? ~> return Err(would_block(IS_RUNNING))
            Ok(()) => file.unlock()?,
            Err(TryLockError::WouldBlock) => return Err(would_block(IS_RUNNING)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        wait();
    }
    Err(would_block("another process keeps the file locked; try again"))
}

/// Why the file cannot be locked.
const IS_RUNNING: &str = "another process is running this run";

/// The complete lines of a file, the last chain, and the length of these lines in bytes.
struct Content {
    entries: Vec<Entry>,
    chain: String,
    length: u64,
}

/// The part of the first line that every format has.
#[derive(Deserialize)]
struct FirstLine {
    header: Version,
}

#[derive(Deserialize)]
struct Version {
    format: u32,
    #[serde(default)]
    salve: String,
}

impl Content {
    fn read(reader: &mut dyn BufRead, path: &Path) -> io::Result<Self> {
        let mut content = Self { entries: Vec::new(), chain: INITIAL_CHAIN.to_owned(), length: 0 };
        let mut line = Vec::new();
        loop {
            line.clear();
            let bytes = reader.read_until(b'\n', &mut line)?;
            if bytes == 0 || line.pop() != Some(b'\n') {
                return Ok(content);
            }
            let number = content.entries.len() + 1;
            let invalid = |why: String| {
                let text = sanitized(&format!("{}, line {number}: {why}", path.display()));
                io::Error::new(io::ErrorKind::InvalidData, text)
            };
            let text = std::str::from_utf8(&line).map_err(|error| invalid(error.to_string()))?;
            let (chain, body) = split_chain(text).ok_or_else(|| {
                invalid("it does not start with the hash that chains it to the line before".into())
            })?;
            // mutant broken-hash-chain-accepted: != link(&content.chain, &body) ~> .len() !=
            //     link(&content.chain, &body).len()
            if chain != link(&content.chain, &body) {
                return Err(invalid(
                    "its hash does not match: it was changed after it was written, or a line before \
                     it was changed or removed"
                        .into(),
                ));
            }
            if content.entries.is_empty() {
                check_format(&body).map_err(invalid)?;
            }
            let entry = serde_json::from_str(&body).map_err(|error| invalid(error.to_string()))?;
            chain.clone_into(&mut content.chain);
            content.length += bytes as u64;
            content.entries.push(entry);
        }
    }
}

/// Checks the format that the first line names.
fn check_format(first_line: &str) -> Result<(), String> {
    let Ok(FirstLine { header: Version { format, salve } }) = serde_json::from_str(first_line)
    else {
        // It is not a header: reading it as an entry says more.
        return Ok(());
    };
    if format == FORMAT {
        return Ok(());
    }
    let version = if salve.is_empty() { salve } else { format!(" ({salve})") };
    Err(format!(
        "run file format {format} is not supported (this version reads format {FORMAT}); finish or \
         discard the run with the version of Salve that wrote it{version}"
    ))
}

fn link(previous: &str, body: &str) -> String {
    digest::of_bytes(format!("{previous}\n{body}").as_bytes())
}

/// Splits a line into its chain and its text without the chain.
fn split_chain(line: &str) -> Option<(&str, String)> {
    let (chain, rest) = line.strip_prefix(BEFORE_CHAIN)?.split_once(AFTER_CHAIN)?;
    Some((chain, format!("{{{rest}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::capability::{Effect, Local, run::Now};
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
    fn a_synced_entry_is_readable_only_by_the_owner() {
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
        assert!(RunFile::create(&runs, "a.jsonl").is_err(), "a run file is never overwritten");
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
    fn a_truncated_file_is_read_up_to_its_last_complete_line() {
        let folder = tempfile::tempdir().unwrap();
        let whole = written(folder.path(), 5);
        let cut = folder.path().join("cut");
        for end in 0..=whole.len() {
            std::fs::write(&cut, &whole[..end]).unwrap();
            let lines = whole[..end].iter().filter(|b| **b == b'\n').count();
            assert_eq!(RunFile::read(&cut).unwrap().len(), lines, "cut at {end}");
            assert_eq!(RunFile::read_first(&cut).unwrap().is_some(), lines > 0, "cut at {end}");
        }
    }

    #[test]
    fn a_flipped_bit_is_detected_and_its_line_named() {
        let folder = tempfile::tempdir().unwrap();
        let whole = written(folder.path(), 3);
        let damaged = folder.path().join("damaged");
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                std::fs::write(&damaged, &bytes).unwrap();
                // Without its line feed, the last line is a torn one, which is not damage.
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
    fn a_file_of_another_format_is_rejected_with_both_formats_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        for (format, salve) in [(1, "0.0.9"), (2, "0.1.0"), (FORMAT + 1, "9.0.0")] {
            let body =
                format!(r#"{{"header":{{"format":{format},"salve":"{salve}","run":"7c1d"}}}}"#);
            let chain = link(INITIAL_CHAIN, &body);
            let line = format!("{BEFORE_CHAIN}{chain}{AFTER_CHAIN}{}\n", &body[1..]);
            std::fs::write(&path, line).unwrap();
            let expected = format!(
                "{}, line 1: run file format {format} is not supported (this version reads format \
                 {FORMAT}); finish or discard the run with the version of Salve that wrote it \
                 ({salve})",
                path.display()
            );
            assert_eq!(RunFile::read(&path).unwrap_err().to_string(), expected);
            assert_eq!(RunFile::resume(&path).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn an_entry_survives_the_process_without_a_sync() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RunFile::create(folder.path(), "a.jsonl").unwrap();
        file.append(&entry(1)).unwrap();
        // A killed process runs no destructor.
        std::mem::forget(file);
        assert_eq!(RunFile::read(&folder.path().join("a.jsonl")).unwrap().len(), 1);
    }

    #[test]
    fn one_process_at_a_time_resumes_a_file_after_its_last_complete_line() {
        let folder = tempfile::tempdir().unwrap();
        let whole = written(folder.path(), 3);
        let path = folder.path().join("torn.jsonl");
        for cut in [whole.len(), whole.len() - 1, whole.len() - 40] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut file, entries) = RunFile::resume(&path).unwrap();
            assert_eq!(RunFile::resume(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert!(RunFile::is_running(&path).unwrap());
            file.append(&entry(9)).unwrap();
            drop(file);
            assert!(!RunFile::is_running(&path).unwrap());
            let lines = entries.len() + 1;
            assert_eq!(RunFile::read(&path).unwrap().len(), lines, "cut at {cut}");
            assert_eq!(lines, if cut == whole.len() { 4 } else { 3 });
        }
        let mut damaged = whole.clone();
        damaged[20] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert!(RunFile::resume(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "a damaged file is not changed");
    }

    #[test]
    fn a_listing_does_not_keep_a_run_from_starting() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), 1);
        let path = folder.path().join("a.jsonl");
        let open = || OpenOptions::new().read(true).append(true).open(&path).unwrap();
        // Two listings, which end one after the other.
        let mut listings = vec![open(), open()];
        listings.iter().for_each(|listing| listing.try_lock_shared().unwrap());
        let file = open();
        lock_after(&file, &path, || drop(listings.pop())).unwrap();
        assert!(listings.is_empty() && RunFile::is_running(&path).unwrap());
        // Another process that runs it is not waited for, whether a listing is in the way or not.
        let error = lock_after(&open(), &path, || panic!("waited for a run")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(file);
        assert!(!RunFile::is_running(&path).unwrap());
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
    fn a_sync_reaches_the_disk() {
        // A pipe cannot be synced, and the system reports it.
        let (_reader, writer) = io::pipe().unwrap();
        assert!(Disk::sync(&mut File::from(std::os::fd::OwnedFd::from(writer))).is_err());
    }

    #[test]
    fn after_an_error_no_more_entries_are_written() {
        for at in 1..=4 {
            let mut file = RunFile::with_disk(Box::new(Failing { operations: 0, at }));
            let mut failed = false;
            for n in 0..3 {
                let (appended, synced) = (file.append(&entry(n)), file.sync());
                assert!(
                    !failed || appended.is_err() && synced.is_err(),
                    "an entry was written after operation {at} failed"
                );
                failed |= appended.is_err() || synced.is_err();
            }
            assert!(failed);
        }
    }

    #[test]
    fn missing_duplicate_and_swapped_lines_are_detected() {
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
