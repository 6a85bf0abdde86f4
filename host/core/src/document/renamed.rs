//! Names of earlier versions of the documents, to tell users what they are called now.

use crate::journal::DocumentKind;

/// A key that was renamed.
pub(super) struct RenamedKey {
    /// End of the schema path of the object that had it.
    object: &'static str,
    old: &'static str,
    /// The key of the same object that replaces it.
    pub replaced_by: &'static str,
    /// Relative to the object.
    now: &'static str,
}

const RENAMED_KEYS: [RenamedKey; 5] = [
    RenamedKey::new("properties/spec", "component", "guest", "spec.guest.path"),
    RenamedKey::new("properties/spec", "digest", "guest", "spec.guest.digest"),
    RenamedKey::new("properties/evidence", "pendingClaims", "pendingPvcs", "pendingPvcs"),
    RenamedKey::new("properties/logLines/items", "like", "pattern", "pattern"),
    RenamedKey::new("properties/logLines/items", "least", "min", "min"),
];

impl RenamedKey {
    const fn new(
        object: &'static str,
        old: &'static str,
        replaced_by: &'static str,
        now: &'static str,
    ) -> Self {
        Self { object, old, replaced_by, now }
    }

    /// Finds a key of the object at a schema path. `known` are its keys today.
    pub fn find(schema_path: &str, key: &str, known: &[&str]) -> Option<&'static Self> {
        RENAMED_KEYS.iter().find(|renamed| {
            renamed.old == key
                && schema_path.ends_with(renamed.object)
                && known.contains(&renamed.replaced_by)
        })
    }

    /// Describes it for the object at a path such as `spec.grants[0].evidence`.
    pub fn describe(&self, path: &str) -> String {
        let Self { old, now, .. } = self;
        if now.starts_with(&format!("{path}.")) {
            format!("{path}.{old} is now {now}")
        } else {
            format!("{path}: {old} is now {now}")
        }
    }
}

/// Returns the kind that a document of this name has today.
pub(super) fn renamed_kind(kind: &str) -> Option<DocumentKind> {
    (kind == "Policy").then_some(DocumentKind::RemediationPolicy)
}
