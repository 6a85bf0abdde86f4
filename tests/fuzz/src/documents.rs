use crate::assert_printable;
use salve_core::capability::{TypedCall as _, query_pvcs::ListPvcs};
use salve_core::document::{API_VERSION, DocumentError, Remediation, RemediationPolicy};
use salve_core::grants::{Grants, Layer, Tally};
use salve_core::journal::DocumentKind;
use serde::Serialize;
use serde_json::json;

const SOURCE: &str = "document.yaml";

/// Checks bytes that claim to be a Remediation or a policy.
pub fn documents(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Remediation::read(text, SOURCE) {
        Ok(document) => {
            let read = |text: &str| Remediation::read(text, SOURCE);
            let reread = reread(&document, DocumentKind::Remediation, read);
            assert_eq!(reread, document);
            check_grants(document.layer(SOURCE));
        }
        Err(error) => check_error(&error),
    }
    match RemediationPolicy::read(text, SOURCE) {
        Ok(document) => {
            let read = |text: &str| RemediationPolicy::read(text, SOURCE);
            let reread = reread(&document, DocumentKind::RemediationPolicy, read);
            assert_eq!(reread, document);
            check_grants(document.layer(SOURCE));
        }
        Err(error) => check_error(&error),
    }
}

/// Writes a document as JSON and reads it again. What was accepted once must be accepted again.
fn reread<T: Serialize>(
    document: &T,
    kind: DocumentKind,
    read: impl Fn(&str) -> Result<T, DocumentError>,
) -> T {
    let mut document = serde_json::to_value(document).expect("a document serializes to JSON");
    document["apiVersion"] = json!(API_VERSION);
    document["kind"] = json!(kind.as_str());
    let text = document.to_string();
    read(&text).unwrap_or_else(|error| panic!("{text} was accepted, but not when reread: {error}"))
}

/// Checks that its grants can decide an effect and that a denial is printable.
fn check_grants(layer: Layer) {
    let grants = Grants { layers: vec![layer] };
    let effect = ListPvcs { namespaces: vec!["media".into()] }.effect();
    if let Err(denial) = grants.decide(&effect, &Tally::default()) {
        assert_printable(&denial.to_string());
    }
}

fn check_error(error: &DocumentError) {
    let text = error.to_string();
    assert!(text.starts_with(SOURCE), "the error does not name the document: {text}");
    assert_printable(&text);
}
