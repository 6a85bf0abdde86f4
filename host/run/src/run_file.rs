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

/// Damage of a run file that is continued nevertheless.
#[derive(Debug)]
pub struct Damage {
    /// Names the line.
    pub error: io::Error,
    /// The damaged file.
    pub copy: PathBuf,
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

    /// Like [`RunFile::resume`], but of a damaged file continues after the last line before the
    /// damage, and returns the damage. The lines from there on are cut off; the whole file is
    /// copied next to it first.
    ///
    /// # Errors
    /// As [`RunFile::resume`], but not for damage after the first line.
    pub fn resume_before_damage(path: &Path) -> io::Result<(Self, Vec<Entry>, Option<Damage>)> {
        let mut file = OpenOptions::new().read(true).append(true).open(path)?;
        lock(&file, path)?;
        let (content, damage) = Content::read_until_damage(&mut BufReader::new(&file), path)?;
        let damage = match damage {
            Some(error) if content.entries.is_empty() => return Err(error),
            Some(error) => {
                file.rewind()?;
                // mutant damaged-run-file-not-kept: copy_next_to(&mut file, path)? ~>
                //     PathBuf::new()
                Some(Damage { error, copy: copy_next_to(&mut file, path)? })
            }
            None => None,
        };
        if file.metadata()?.len() != content.length {
            file.set_len(content.length)?;
            file.sync_data()?;
        }
        let (path, disk) = (path.to_owned(), Box::new(file));
        let file = Self { path, disk, chain: content.chain, is_broken: false };
        Ok((file, content.entries, damage))
    }

    /// Returns the copies of a run file that was damaged. What the lines after the damage recorded
    /// is not in the file any more.
    ///
    /// # Errors
    /// The file system reports an error.
    pub fn damaged_copies(path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut copies = vec![];
        for n in 1.. {
            let copy = damaged_copy(path, n);
            if !copy.try_exists()? {
                break;
            }
            copies.push(copy);
        }
        Ok(copies)
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

/// Returns the path of the `n`th copy of a damaged run file.
fn damaged_copy(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(if n == 1 { ".damaged".into() } else { format!(".damaged.{n}") });
    name.into()
}

/// Copies a file to the first free name next to it.
fn copy_next_to(file: &mut File, path: &Path) -> io::Result<PathBuf> {
    for n in 1.. {
        let copy = damaged_copy(path, n);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy) {
            Ok(mut to) => {
                io::copy(file, &mut to)?;
                to.sync_all()?;
                File::open(
                    path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new(".")),
                )?
                .sync_all()?;
                return Ok(copy);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("there is no free name for a copy of the damaged run file"))
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
        match Self::read_until_damage(reader, path)? {
            (content, None) => Ok(content),
            (_, Some(damage)) => Err(damage),
        }
    }

    /// Reads up to the first line that is not chained to the one before, and returns the damage.
    ///
    /// # Errors
    /// An intact line is not an entry, or the file has another format.
    fn read_until_damage(
        reader: &mut dyn BufRead,
        path: &Path,
    ) -> io::Result<(Self, Option<io::Error>)> {
        let mut content = Self { entries: Vec::new(), chain: INITIAL_CHAIN.to_owned(), length: 0 };
        let mut line = Vec::new();
        loop {
            line.clear();
            let bytes = reader.read_until(b'\n', &mut line)?;
            if bytes == 0 || line.pop() != Some(b'\n') {
                return Ok((content, None));
            }
            let number = content.entries.len() + 1;
            let invalid = |why: String| {
                let text = sanitized(&format!("{}, line {number}: {why}", path.display()));
                io::Error::new(io::ErrorKind::InvalidData, text)
            };
            let text = match std::str::from_utf8(&line) {
                Ok(text) => text,
                Err(error) => return Ok((content, Some(invalid(error.to_string())))),
            };
            let Some((chain, body)) = split_chain(text) else {
                let why = "it does not start with the hash that chains it to the line before";
                return Ok((content, Some(invalid(why.into()))));
            };
            // mutant broken-hash-chain-accepted: != link(&content.chain, &body) ~> .len() !=
            //     link(&content.chain, &body).len()
            if chain != link(&content.chain, &body) {
                let why = "its hash does not match: it was changed after it was written, or a \
                    line before it was changed or removed";
                return Ok((content, Some(invalid(why.into()))));
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
#[path = "run_file_tests.rs"]
mod tests;
