//! Where entries are written.

use salve_core::journal::Entry;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Keeps entries in order.
///
/// # Guarantees
/// After `sync` returned, all entries appended before it survive a crash of the process and of the
/// machine. After an error, no more entries are accepted: a journal that failed once is not trusted
/// again.
pub trait Journal: Send {
    /// Appends an entry. It may be lost with the machine until [`Journal::sync`] returns.
    fn append(&mut self, entry: &Entry) -> io::Result<()>;
    /// Flushes all appended entries to disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// Entries in memory, for tests and plans. Clones share the same entries.
#[derive(Clone, Debug, Default)]
pub struct InMemory {
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl InMemory {
    /// Returns all entries so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Journal for InMemory {
    fn append(&mut self, entry: &Entry) -> io::Result<()> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry.clone());
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
