//! What this run holds suspended. The truth about it is here, whatever the guest still remembers.

use salve_core::effect::suspend_flux::{Resume, Resumed};

/// All suspensions of a run, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Suspensions {
    all: Vec<Suspension>,
}

#[derive(Debug)]
struct Suspension {
    release: Resume,
    answer: Option<Resumed>,
}

impl Suspensions {
    /// Notes one, before the request that makes it is sent.
    pub fn open(&mut self, release: Resume) -> u32 {
        self.all.push(Suspension { release, answer: None });
        u32::try_from(self.all.len() - 1).expect("a run cannot suspend four thousand million objects")
    }
    /// It was prepared anew: another object, or another state to restore.
    pub fn renew(&mut self, id: u32, release: Resume) {
        if let Some(suspension) = self.all.get_mut(id as usize) {
            suspension.release = release;
        }
    }
    /// What releases it, while it is open.
    pub fn release(&self, id: u32) -> Option<&Resume> {
        self.all.get(id as usize).filter(|s| s.answer.is_none()).map(|s| &s.release)
    }
    /// How it was released, once it was.
    pub fn answer(&self, id: u32) -> Option<&Resumed> {
        self.all.get(id as usize).and_then(|s| s.answer.as_ref())
    }
    /// It is released.
    pub fn close(&mut self, id: u32, answer: Resumed) {
        if let Some(suspension) = self.all.get_mut(id as usize) {
            suspension.answer = Some(answer);
        }
    }
    /// Those that are open, the newest first.
    pub fn still_open(&self) -> Vec<u32> {
        (0..self.all.len()).rev().filter(|i| self.all[*i].answer.is_none()).map(|i| i as u32).collect()
    }
    /// What would release them, the newest first.
    pub fn releases(&self) -> Vec<Resume> {
        self.still_open().into_iter().filter_map(|id| self.release(id).cloned()).collect()
    }
}
