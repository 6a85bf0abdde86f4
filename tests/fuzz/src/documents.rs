use crate::can_be_shown;
use salve_core::document::{API_VERSION, Broken, Policy, Remediation};
use salve_core::effect::{TypedCall as _, query_pvcs::ListPvcs};
use salve_core::grants::{Grants, Layer, Tally};
use serde::Serialize;
use serde_json::json;

const SOURCE: &str = "it.yaml";

/// A Remediation or a Policy that somebody wrote.
pub fn documents(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Remediation::read(text, SOURCE) {
        Ok(read) => {
            let again = again(&read, "Remediation", |text| Remediation::read(text, SOURCE));
            assert_eq!(again, read);
            holds(read.layer(SOURCE));
        }
        Err(broken) => said(&broken),
    }
    match Policy::read(text, SOURCE) {
        Ok(read) => {
            let again = again(&read, "Policy", |text| Policy::read(text, SOURCE));
            assert_eq!(again, read);
            holds(read.layer(SOURCE));
        }
        Err(broken) => said(&broken),
    }
}

/// What was read, written as JSON and read once more: nothing is lost, and what we write we accept.
fn again<T: Serialize>(read: &T, kind: &str, by: impl Fn(&str) -> Result<T, Broken>) -> T {
    let mut document = serde_json::to_value(read).expect("a document is JSON");
    document["apiVersion"] = json!(API_VERSION);
    document["kind"] = json!(kind);
    let text = document.to_string();
    by(&text).unwrap_or_else(|broken| panic!("{text} was read and is refused: {broken}"))
}

/// Its grants can be asked, and a denial can be shown.
fn holds(layer: Layer) {
    let grants = Grants { layers: vec![layer] };
    let asked = ListPvcs { namespaces: vec!["media".into()] }.effect();
    if let Err(denial) = grants.decide(&asked, &Tally::default()) {
        can_be_shown(&denial.to_string());
    }
}

fn said(broken: &Broken) {
    let text = broken.to_string();
    assert!(text.starts_with(SOURCE), "{text} does not say whose fault it is");
    can_be_shown(&text);
}
