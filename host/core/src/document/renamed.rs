//! Names of earlier versions of the documents, to tell users what they are called now.

use crate::journal::DocumentKind;
use salve_document::RenamedKey;

pub(super) static KEYS: [RenamedKey; 5] = [
    renamed("properties/spec", "component", "guest", "spec.guest.path"),
    renamed("properties/spec", "digest", "guest", "spec.guest.digest"),
    renamed("properties/evidence", "pendingClaims", "pendingPvcs", "pendingPvcs"),
    renamed("properties/logLines/items", "like", "pattern", "pattern"),
    renamed("properties/logLines/items", "least", "min", "min"),
];

const fn renamed(
    object: &'static str,
    old: &'static str,
    replaced_by: &'static str,
    now: &'static str,
) -> RenamedKey {
    RenamedKey { object, old, replaced_by, now }
}

/// Returns what a kind was called before.
pub(super) fn former_kind(kind: DocumentKind) -> Option<&'static str> {
    match kind {
        DocumentKind::Remediation => None,
        DocumentKind::RemediationPolicy => Some("Policy"),
    }
}
