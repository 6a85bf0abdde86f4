//! Compares handles, so that types that own one can be compared. Two handles are equal only if they
//! are the same one.

use crate::Reversal;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

impl PartialEq for Reversal {
    fn eq(&self, other: &Self) -> bool {
        self.handle() == other.handle()
    }
}

impl Eq for Reversal {}

impl PartialOrd for Reversal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Reversal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.handle().cmp(&other.handle())
    }
}

impl Hash for Reversal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.handle().hash(state);
    }
}
