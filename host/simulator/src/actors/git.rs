//! The Git repository behind Flux: a revision, and the objects that each Kustomization or
//! HelmRelease declares.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::store::Key;

/// The content of the Git repository.
#[derive(Debug, Default, Clone)]
pub struct Git {
    /// The head of the branch, in Flux's format.
    pub revision: String,
    declared: BTreeMap<Key, Vec<Value>>,
}

impl Git {
    /// Adds an object to those that `owner` declares.
    pub fn declare(&mut self, owner: &Key, object: Value) {
        self.declared.entry(owner.clone()).or_default().push(object);
    }

    /// Returns the objects that `owner` declares.
    pub fn declared(&self, owner: &Key) -> Vec<Value> {
        self.declared.get(owner).cloned().unwrap_or_default()
    }
}
