//! GUEST: a shipped name, a component's path, or a Remediation document's path; and what holds for it.

use crate::arguments::GuestOptions;
use crate::output::Failed;
use salve_core::document::{Limits, Policy, Remediation};
use salve_core::grants::Grants;
use salve_core::journal::Document;
use salve_core::{digest, sanitize};
use serde_json::Value;
use std::path::Path;

/// The guests inside this binary.
const SHIPPED: &[Shipped] = &[Shipped {
    name: "volsync-unlock",
    component: include_bytes!(env!("VOLSYNC_UNLOCK")),
    remediation: include_str!("../../../guests/volsync-unlock/remediation.yaml"),
}];

struct Shipped {
    name: &'static str,
    component: &'static [u8],
    remediation: &'static str,
}

/// A component, and what holds for it.
pub struct ResolvedGuest {
    /// Its bytes.
    pub component: Vec<u8>,
    /// SHA-256 of them.
    pub digest: String,
    /// Where it came from, for people.
    pub origin: String,
    /// The documents that it holds under.
    pub documents: Vec<Document>,
    /// What holds: the Remediation's grants, and the policy's above them.
    pub grants: Grants,
    /// The Remediation's configuration.
    pub configuration: Value,
    /// What it may use of this machine.
    pub limits: Limits,
}

/// A component, and the document that came with it.
pub struct Component {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where it came from, for people.
    pub origin: String,
    /// Its own document.
    pub remediation: Option<(Remediation, Document)>,
}

/// Finds the component alone, for commands that run nothing of it.
pub fn component(guest: &str) -> Result<Component, Failed> {
    if let Some(shipped) = SHIPPED.iter().find(|s| s.name == guest) {
        let remediation = Remediation::read(shipped.remediation, shipped.name)
            .map_err(|e| Failed::host(e.to_string()))?;
        let remediation =
            Some((remediation, document("Remediation", shipped.name.into(), shipped.remediation)));
        return Ok(Component {
            bytes: shipped.component.to_vec(),
            origin: "shipped".into(),
            remediation,
        });
    }
    let path = Path::new(guest);
    let bytes = std::fs::read(path).map_err(|e| {
        let names: Vec<_> = SHIPPED.iter().map(|s| s.name).collect();
        Failed::usage(format!(
            "{}: {e}\na shipped guest ({}), a component or a Remediation document is wanted",
            sanitize::sanitized(guest),
            names.join(", ")
        ))
    })?;
    if !matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json")) {
        return Ok(Component { bytes, origin: guest.into(), remediation: None });
    }
    let text =
        String::from_utf8(bytes).map_err(|_| Failed::document(format!("{guest}: not UTF-8")))?;
    let remediation =
        Remediation::read(&text, guest).map_err(|e| Failed::document(e.to_string()))?;
    let Some(component) = &remediation.spec.component else {
        return Err(Failed::document(format!(
            "{guest}: spec.component is missing: the component's path, seen from this document"
        )));
    };
    let at = path.parent().unwrap_or(Path::new(".")).join(component);
    let bytes = std::fs::read(&at)
        .map_err(|e| Failed::document(format!("{guest}: spec.component {}: {e}", at.display())))?;
    let document = document("Remediation", absolute(path), &text);
    Ok(Component {
        bytes,
        origin: at.display().to_string(),
        remediation: Some((remediation, document)),
    })
}

impl ResolvedGuest {
    /// Finds the component and the documents that hold for it.
    pub fn find(guest: &str, terms: &GuestOptions) -> Result<Self, Failed> {
        let Component { bytes, origin, remediation: local } = component(guest)?;
        let (remediation, source) = match &terms.remediation {
            Some(path) => (Some(read_remediation(path)?), path.display().to_string()),
            None => (local, guest.to_owned()),
        };
        Self::under(bytes, origin, remediation, &source, terms.policy.as_deref())
    }

    /// A component that was kept, under the documents that held for it, as they are today.
    pub fn of(component: Vec<u8>, origin: String, documents: &[Document]) -> Result<Self, Failed> {
        let source = |kind: &str| {
            documents
                .iter()
                .find(|document| document.kind == kind)
                .map(|document| document.source.clone())
        };
        let from = source("Remediation");
        let remediation = from.as_deref().map(todays).transpose()?;
        Self::under(
            component,
            origin,
            remediation,
            from.as_deref().unwrap_or_default(),
            source("Policy").as_deref().map(Path::new),
        )
    }

    fn under(
        component: Vec<u8>,
        origin: String,
        remediation: Option<(Remediation, Document)>,
        source: &str,
        policy: Option<&Path>,
    ) -> Result<Self, Failed> {
        let digest = digest::of_bytes(&component);
        let (mut layers, mut documents) = (vec![], vec![]);
        if let Some((remediation, document)) = &remediation {
            documents.push(document.clone());
            if remediation
                .spec
                .digest
                .as_ref()
                .is_some_and(|d| d.trim_start_matches("sha256:") != digest)
            {
                return Err(Failed::document(format!(
                    "{source}: spec.digest does not fit the component, whose SHA-256 is {digest}"
                )));
            }
            layers.push(remediation.layer(source));
        }
        if let Some(path) = policy {
            let source = path.display().to_string();
            let (policy, document) = read_policy(path)?;
            documents.push(document);
            admits(&policy, &source, &digest)?;
            layers.push(policy.layer(&source));
        }
        if layers.is_empty() {
            return Err(Failed::usage(format!(
                "{} is a bare component and has no grants: give --remediation FILE or --policy FILE",
                sanitize::sanitized(&origin)
            )));
        }
        let (configuration, limits) =
            remediation.map(|(r, _)| (r.spec.configuration, r.spec.limits)).unwrap_or_default();
        Ok(Self {
            component,
            digest,
            origin,
            documents,
            grants: Grants { layers },
            configuration,
            limits,
        })
    }
}

/// Refuses a component that is none of those which a policy lets run.
pub fn admits(policy: &Policy, source: &str, digest: &str) -> Result<(), Failed> {
    match &policy.spec.digests {
        // mutant digests-not-enforced: !all ~> all.is_empty() && !all
        Some(all) if !all.iter().any(|one| one.trim_start_matches("sha256:") == digest) => {
            Err(Failed::denied(format!(
                "{source}: spec.digests does not name this component\nto allow   - sha256:{digest}"
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// A Remediation as it is today, by where it came from then: a shipped guest's name, or a path.
pub fn todays(source: &str) -> Result<(Remediation, Document), Failed> {
    match component(source) {
        Ok(Component { remediation: Some(found), .. })
            if SHIPPED.iter().any(|s| s.name == source) =>
        {
            Ok(found)
        }
        _ => read_remediation(Path::new(source)),
    }
}

/// Reads a Remediation.
pub fn read_remediation(path: &Path) -> Result<(Remediation, Document), Failed> {
    let text = read(path)?;
    let remediation = Remediation::read(&text, &path.display().to_string())
        .map_err(|e| Failed::document(e.to_string()))?;
    Ok((remediation, document("Remediation", absolute(path), &text)))
}

/// Reads a Policy.
pub fn read_policy(path: &Path) -> Result<(Policy, Document), Failed> {
    let text = read(path)?;
    let policy = Policy::read(&text, &path.display().to_string())
        .map_err(|e| Failed::document(e.to_string()))?;
    Ok((policy, document("Policy", absolute(path), &text)))
}

fn document(kind: &str, source: String, text: &str) -> Document {
    Document { kind: kind.into(), source, digest: digest::of_bytes(text.as_bytes()) }
}

/// As somebody finds it who stands in another folder.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn read(path: &Path) -> Result<String, Failed> {
    std::fs::read_to_string(path).map_err(|e| Failed::document(format!("{}: {e}", path.display())))
}
