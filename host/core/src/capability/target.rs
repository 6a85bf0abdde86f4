//! The objects that a call concerns.

use serde_json::Value;
use std::fmt;

/// An object, or all objects of a kind in a namespace: what grants are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The kind, for capabilities that work on several.
    pub kind: Option<TargetKind>,
    /// None for cluster-scoped objects.
    pub namespace: Option<String>,
    /// None for all of the namespace.
    pub name: Option<String>,
}

/// A kind as grants write it, and as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetKind {
    /// `resource.group`, such as `kustomizations.kustomize.toolkit.fluxcd.io`; core kinds: `pods`.
    pub resource: String,
    /// Such as `Kustomization`; the resource where the kind is not known.
    pub label: String,
}

impl Target {
    pub fn object(namespace: &str, name: &str) -> Self {
        Self { kind: None, namespace: Some(namespace.into()), name: Some(name.into()) }
    }

    pub fn all_of(namespace: &str) -> Self {
        Self { kind: None, namespace: Some(namespace.into()), name: None }
    }

    /// Returns it with a kind: `resource.group`, and what people call it.
    #[must_use]
    pub fn with_kind(mut self, resource: impl Into<String>, label: impl Into<String>) -> Self {
        self.kind = Some(TargetKind { resource: resource.into(), label: label.into() });
        self
    }

    /// Returns whether it is this object, given as JSON. A kind is compared if there is one.
    pub fn is(&self, object: &Value) -> bool {
        let part = |at: &str| object.pointer(at).and_then(Value::as_str);
        let kind = self.kind.as_ref().is_none_or(|kind| part("/kind") == Some(&kind.label));
        kind && part("/metadata/namespace") == self.namespace.as_deref()
            && part("/metadata/name") == self.name.as_deref()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = &self.kind {
            write!(f, "{} ", kind.label)?;
        }
        match (&self.namespace, &self.name) {
            (Some(ns), Some(name)) => write!(f, "{ns}/{name}"),
            (Some(ns), None) => write!(f, "{ns}/*"),
            (None, Some(name)) => f.write_str(name),
            (None, None) => f.write_str("*"),
        }
    }
}
