//! Resolves GUEST (a shipped name, a component's path, or a Remediation's path) to a component and
//! the documents that apply to it.

use crate::arguments::GuestOptions;
use crate::output::CommandError;
use salve_core::document::{Limits, Remediation, RemediationPolicy};
use salve_core::grants::Grants;
use salve_core::journal::{Document, DocumentKind};
use salve_core::problem::{self, Problem};
use salve_core::{digest, sanitize};
use serde_json::Value;
use std::path::Path;

/// The guests that are embedded in this binary.
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

/// A component with the documents that apply to it.
pub struct ResolvedGuest {
    pub component: Vec<u8>,
    /// The SHA-256 digest of the component, in hexadecimal.
    pub digest: String,
    /// Where the component came from, for display.
    pub origin: String,
    pub documents: Vec<Document>,
    /// The grants of the Remediation and of the RemediationPolicy, if there is one.
    pub grants: Grants,
    /// The Remediation's configuration.
    pub configuration: Value,
    pub limits: Limits,
    /// What counts as fixed.
    pub problems: Vec<Problem>,
}

/// A component with its own Remediation.
pub struct Component {
    pub bytes: Vec<u8>,
    /// Where the component came from, for display.
    pub origin: String,
    pub remediation: Option<(Remediation, Document)>,
}

/// Finds a component without applying other documents.
pub fn find_component(guest: &str) -> Result<Component, CommandError> {
    if let Some(shipped) = SHIPPED.iter().find(|s| s.name == guest) {
        let remediation = Remediation::read(shipped.remediation, shipped.name)
            .map_err(|e| CommandError::host(e.to_string()))?;
        let document =
            document(DocumentKind::Remediation, shipped.name.into(), shipped.remediation);
        return Ok(Component {
            bytes: shipped.component.to_vec(),
            origin: "shipped".into(),
            remediation: Some((remediation, document)),
        });
    }
    let path = Path::new(guest);
    let bytes = std::fs::read(path).map_err(|e| {
        let names: Vec<_> = SHIPPED.iter().map(|s| s.name).collect();
        CommandError::usage(format!(
            "{}: {e}\nexpected a shipped guest ({}), a component, or a Remediation document",
            sanitize::sanitized(guest),
            names.join(", ")
        ))
    })?;
    if !matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json")) {
        return Ok(Component { bytes, origin: guest.into(), remediation: None });
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| CommandError::document(format!("{guest}: not valid UTF-8")))?;
    let remediation =
        Remediation::read(&text, guest).map_err(|e| CommandError::document(e.to_string()))?;
    let Some(component) = &remediation.spec.guest.path else {
        return Err(CommandError::document(format!(
            "{guest}: spec.guest.path is missing (the component's path, relative to this document)"
        )));
    };
    let component = path.parent().unwrap_or(Path::new(".")).join(component);
    let bytes = std::fs::read(&component).map_err(|e| {
        CommandError::document(format!("{guest}: spec.guest.path {}: {e}", component.display()))
    })?;
    let document = document(DocumentKind::Remediation, absolute(path), &text);
    Ok(Component {
        bytes,
        origin: component.display().to_string(),
        remediation: Some((remediation, document)),
    })
}

impl ResolvedGuest {
    /// Resolves GUEST and applies the documents that the options name.
    pub fn resolve(guest: &str, options: &GuestOptions) -> Result<Self, CommandError> {
        let Component { bytes, origin, remediation: own } = find_component(guest)?;
        let (remediation, source) = match &options.remediation {
            Some(path) => (Some(read_remediation(path)?), path.display().to_string()),
            None => (own, guest.to_owned()),
        };
        Self::with_documents(bytes, origin, remediation, &source, options.policy.as_deref())
    }

    /// Applies the current versions of `documents` to a saved component.
    pub fn with_current_documents(
        component: Vec<u8>,
        origin: String,
        documents: &[Document],
    ) -> Result<Self, CommandError> {
        let source = |kind: DocumentKind| {
            documents
                .iter()
                .find(|document| document.kind == kind)
                .map(|document| document.source.clone())
        };
        let from = source(DocumentKind::Remediation);
        let remediation = from.as_deref().map(current_remediation).transpose()?;
        Self::with_documents(
            component,
            origin,
            remediation,
            from.as_deref().unwrap_or_default(),
            source(DocumentKind::RemediationPolicy).as_deref().map(Path::new),
        )
    }

    fn with_documents(
        component: Vec<u8>,
        origin: String,
        remediation: Option<(Remediation, Document)>,
        source: &str,
        policy: Option<&Path>,
    ) -> Result<Self, CommandError> {
        let digest = digest::of_bytes(&component);
        let (mut layers, mut documents) = (vec![], vec![]);
        let declared = remediation.as_ref().map(|(r, _)| r.spec.problems.clone());
        let mut problems = declared.unwrap_or_default();
        if let Some((remediation, document)) = &remediation {
            documents.push(document.clone());
            if remediation
                .spec
                .guest
                .digest
                .as_ref()
                .is_some_and(|d| d.trim_start_matches("sha256:") != digest)
            {
                return Err(CommandError::document(format!(
                    "{source}: spec.guest.digest does not match the component, \
                     whose digest is sha256:{digest}"
                )));
            }
            layers.push(remediation.layer(source));
        }
        if let Some(path) = policy {
            let source = path.display().to_string();
            let (policy, document) = read_policy(path)?;
            documents.push(document);
            check_digest(&policy, &source, &digest)?;
            layers.push(policy.layer(&source));
            problems = problem::merged(problems, policy.spec.problems, &policy.spec.windows)
                .map_err(|e| CommandError::document(format!("{source}: {e}")))?;
        }
        if layers.is_empty() {
            return Err(CommandError::usage(format!(
                "{} is a component without grants: pass --remediation FILE or --policy FILE",
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
            problems,
        })
    }
}

/// Checks that a RemediationPolicy allows the component with this digest.
///
/// # Errors
/// The policy lists digests and this one is not among them.
pub fn check_digest(
    policy: &RemediationPolicy,
    source: &str,
    digest: &str,
) -> Result<(), CommandError> {
    match &policy.spec.digests {
        // mutant digests-not-enforced: !all ~> all.is_empty() && !all
        Some(all) if !all.iter().any(|one| one.trim_start_matches("sha256:") == digest) => {
            Err(CommandError::denied(format!(
                "{source}: spec.digests does not list this component\n\
                 to allow it, add   - sha256:{digest}"
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// Returns the current version of a Remediation by its source: a shipped guest's name or a path.
pub fn current_remediation(source: &str) -> Result<(Remediation, Document), CommandError> {
    match find_component(source) {
        Ok(Component { remediation: Some(found), .. })
            if SHIPPED.iter().any(|s| s.name == source) =>
        {
            Ok(found)
        }
        _ => read_remediation(Path::new(source)),
    }
}

/// Reads a Remediation from a file.
pub fn read_remediation(path: &Path) -> Result<(Remediation, Document), CommandError> {
    let text = read(path)?;
    let remediation = Remediation::read(&text, &path.display().to_string())
        .map_err(|e| CommandError::document(e.to_string()))?;
    Ok((remediation, document(DocumentKind::Remediation, absolute(path), &text)))
}

/// Reads a RemediationPolicy from a file.
pub fn read_policy(path: &Path) -> Result<(RemediationPolicy, Document), CommandError> {
    let text = read(path)?;
    let policy = RemediationPolicy::read(&text, &path.display().to_string())
        .map_err(|e| CommandError::document(e.to_string()))?;
    Ok((policy, document(DocumentKind::RemediationPolicy, absolute(path), &text)))
}

fn document(kind: DocumentKind, source: String, text: &str) -> Document {
    Document { kind, source, digest: digest::of_bytes(text.as_bytes()) }
}

/// Makes a path absolute, so that a later command finds the file from another folder.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn read(path: &Path) -> Result<String, CommandError> {
    std::fs::read_to_string(path)
        .map_err(|e| CommandError::document(format!("{}: {e}", path.display())))
}
