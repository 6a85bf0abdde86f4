//! Where entries go.

use salve_core::journal::Entry;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Keeps entries in order.
///
/// # Guarantees
/// After `sync` returned, every entry appended before survives the process and the machine. After an
/// error nothing more is taken: a journal that failed once is not to be trusted again.
pub trait Journal: Send {
    /// Appends. May still be lost with the process until [`Journal::sync`].
    fn append(&mut self, entry: &Entry) -> io::Result<()>;
    /// Brings everything to the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// Entries in memory, for tests and plans. Clones see the same entries.
#[derive(Clone, Debug, Default)]
pub struct InMemory {
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl InMemory {
    /// What was written so far.
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
