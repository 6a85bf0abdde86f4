//! The Git repository behind Flux, as far as controllers see it: a revision, and what each Kustomization or
//! HelmRelease declares.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::store::Key;

/// What is declared in Git.
#[derive(Debug, Default, Clone)]
pub struct Git {
    /// The head of the branch, as Flux writes it.
    pub revision: String,
    declared: BTreeMap<Key, Vec<Value>>,
}

impl Git {
    /// Declares an object in the folder of `owner`.
    pub fn declare(&mut self, owner: &Key, object: Value) {
        self.declared.entry(owner.clone()).or_default().push(object);
    }

    /// What `owner` declares.
    pub fn declared(&self, owner: &Key) -> Vec<Value> {
        self.declared.get(owner).cloned().unwrap_or_default()
    }
}
