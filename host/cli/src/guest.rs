//! GUEST: a shipped name, a component's path, or a Remediation document's path; and what holds for it.

use crate::arguments::GuestArguments;
use crate::tell::Failed;
use salve_core::document::{Limits, Policy, Remediation};
use salve_core::grants::Grants;
use salve_core::{digest, text};
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
pub struct Chosen {
    /// Its bytes.
    pub component: Vec<u8>,
    /// SHA-256 of them.
    pub digest: String,
    /// Where it came from, for people.
    pub origin: String,
    /// What holds: the Remediation's grants, and the policy's above them.
    pub grants: Grants,
    /// The Remediation's configuration.
    pub configuration: Value,
    /// What it may use of this machine.
    pub limits: Limits,
}

/// Finds the component alone, for commands that run nothing of it.
pub fn component(guest: &str) -> Result<(Vec<u8>, String, Option<Remediation>), Failed> {
    if let Some(shipped) = SHIPPED.iter().find(|s| s.name == guest) {
        let remediation = Remediation::read(shipped.remediation, shipped.name).map_err(|e| Failed::host(e.to_string()))?;
        return Ok((shipped.component.to_vec(), "shipped".into(), Some(remediation)));
    }
    let path = Path::new(guest);
    let bytes = std::fs::read(path).map_err(|e| {
        let names: Vec<_> = SHIPPED.iter().map(|s| s.name).collect();
        Failed::usage(format!("{}: {e}\na shipped guest ({}), a component or a Remediation document is wanted", text::inert(guest), names.join(", ")))
    })?;
    if !matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json")) {
        return Ok((bytes, guest.into(), None));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failed::document(format!("{guest}: not UTF-8")))?;
    let remediation = Remediation::read(&text, guest).map_err(|e| Failed::document(e.to_string()))?;
    let Some(component) = &remediation.spec.component else {
        return Err(Failed::document(format!("{guest}: spec.component is missing: the component's path, seen from this document")));
    };
    let at = path.parent().unwrap_or(Path::new(".")).join(component);
    let bytes = std::fs::read(&at).map_err(|e| Failed::document(format!("{guest}: spec.component {}: {e}", at.display())))?;
    Ok((bytes, at.display().to_string(), Some(remediation)))
}

impl Chosen {
    /// Finds the component and the documents that hold for it.
    pub fn find(arguments: &GuestArguments) -> Result<Self, Failed> {
        let (component, origin, own) = component(&arguments.guest)?;
        let digest = digest::of_bytes(&component);
        let (remediation, source) = match &arguments.remediation {
            Some(path) => {
                (Some(Remediation::read(&read(path)?, &path.display().to_string()).map_err(|e| Failed::document(e.to_string()))?), path.display().to_string())
            }
            None => (own, arguments.guest.clone()),
        };
        let mut layers = vec![];
        if let Some(remediation) = &remediation {
            if remediation.spec.digest.as_ref().is_some_and(|d| d.trim_start_matches("sha256:") != digest) {
                return Err(Failed::document(format!("{source}: spec.digest does not fit the component, whose SHA-256 is {digest}")));
            }
            layers.push(remediation.layer(&source));
        }
        if let Some(path) = &arguments.policy {
            let source = path.display().to_string();
            let policy = Policy::read(&read(path)?, &source).map_err(|e| Failed::document(e.to_string()))?;
            if policy.spec.digests.as_ref().is_some_and(|all| !all.iter().any(|d| d.trim_start_matches("sha256:") == digest)) {
                return Err(Failed::denied(format!("{source}: spec.digests does not name this component\nto allow   - sha256:{digest}")));
            }
            layers.push(policy.layer(&source));
        }
        if layers.is_empty() {
            return Err(Failed::usage(format!("{} is a bare component and has no grants: give --remediation FILE or --policy FILE", arguments.guest)));
        }
        let (configuration, limits) = remediation.map(|r| (r.spec.configuration, r.spec.limits)).unwrap_or_default();
        Ok(Self { component, digest, origin, grants: Grants { layers }, configuration, limits })
    }
}

fn read(path: &Path) -> Result<String, Failed> {
    std::fs::read_to_string(path).map_err(|e| Failed::document(format!("{}: {e}", path.display())))
}
