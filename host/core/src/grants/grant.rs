//! A permission: a capability, which objects, how often, and under which conditions.

use super::{Evidence, Selector, schema};
use crate::capability::call::Limit;
use crate::capability::types::Kind;
use crate::capability::{Access, Capability, Function, GrantKinds, Target};
use crate::footprint;
use crate::glob::Glob;
use crate::outcome::Error;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A permission to use a capability on some objects. What no grant allows is denied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Grant {
    /// The WIT interface.
    pub capability: Capability,
    /// Kinds, written `resource.group` (core kinds: `resource`), by name or glob pattern. Without
    /// it: all kinds of the capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), transform = schema::describe_kinds)]
    pub kinds: Option<Vec<Glob>>,
    /// Namespaces, by name or glob pattern; `*` for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), transform = schema::describe_namespaces)]
    pub namespaces: Vec<Glob>,
    /// Object names, by name or glob pattern. Without it: all names.
    #[serde(default = "every", skip_serializing_if = "is_every")]
    #[schemars(length(min = 1))]
    pub names: Vec<Glob>,
    /// Fields that may be set, as paths such as `spec.replicas`. Required where it applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), transform = schema::describe_fields)]
    pub fields: Option<Vec<String>>,
    /// Only objects with these labels, in the syntax of `kubectl -l`, such as
    /// `app=plex,tier!=cache,env in (a,b),!keep`. Compared with an object right before it is
    /// changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::describe_writes)]
    pub label_selector: Option<Selector>,
    /// Only ReplicationSources with these movers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::movers", transform = schema::describe_movers)]
    pub movers: Option<Vec<String>>,
    /// Maxima per run. Attempts count, also those before a recovery.
    #[serde(default, skip_serializing_if = "Max::is_empty")]
    pub max: Max,
    /// Requires approval by a person: at a terminal, or of a plan (`salve run --plan`). `--yes`
    /// does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::describe_writes)]
    pub approval: Option<Approval>,
    /// What the reads of the run must have found first, whatever the guest says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::describe_writes)]
    pub evidence: Option<Evidence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    Required,
}

fn every() -> Vec<Glob> {
    vec![Glob::every()]
}

fn is_every(names: &[Glob]) -> bool {
    names.iter().any(Glob::is_every)
}

/// Maxima per run, by the key of a capability's [`Limit`]. Attempts count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Max(BTreeMap<String, u32>);

impl Max {
    /// Returns the lower of each.
    #[must_use]
    pub fn least(mut self, other: &Self) -> Self {
        for (key, max) in &other.0 {
            let least = self.0.entry(key.clone()).or_insert(*max);
            *least = (*least).min(*max);
        }
        self
    }

    pub fn of(&self, limit: Limit) -> Option<u32> {
        self.0.get(limit.key).copied()
    }

    pub fn set(&mut self, key: &str, max: u32) {
        self.0.insert(key.to_owned(), max);
    }

    /// Describes each maximum: `at most 1 restart per run`.
    pub fn describe(&self) -> impl Iterator<Item = String> {
        let known: BTreeMap<&str, Limit> = Function::ALL
            .iter()
            .filter_map(|function| function.limit())
            .map(|limit| (limit.key, limit))
            .collect();
        let describe = move |(key, max): (&String, &u32)| {
            let noun = match known.get(key.as_str()) {
                Some(limit) if *max == 1 => limit.noun,
                Some(_) | None => key,
            };
            format!("at most {max} {noun} per run")
        };
        self.0.iter().map(describe).collect::<Vec<_>>().into_iter()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// # Errors
    /// A key is not one of this capability's.
    fn validate(&self, capability: Capability) -> Result<(), String> {
        let keys: BTreeSet<&str> = capability
            .functions()
            .filter_map(|function| function.limit())
            .map(|limit| limit.key)
            .collect();
        match self.0.keys().find(|key| !keys.contains(key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let owner = Capability::grantable().find(|other| {
                    other.functions().any(|f| f.limit().is_some_and(|limit| limit.key == key))
                });
                Err(match owner {
                    Some(owner) => format!("`max.{key}` applies to {owner} only"),
                    None => format!("unknown key `max.{}`", crate::sanitize::sanitized(key)),
                })
            }
        }
    }
}

impl Grant {
    /// Creates a grant of a capability for everything, any number of times.
    pub fn whole(capability: Capability) -> Self {
        Self {
            capability,
            kinds: None,
            namespaces: every(),
            names: every(),
            fields: None,
            label_selector: None,
            movers: None,
            max: Max::default(),
            approval: None,
            evidence: None,
        }
    }

    /// Checks what a schema cannot express.
    ///
    /// # Errors
    /// A key is missing or does not apply to the capability.
    pub fn validate(&self) -> Result<(), String> {
        let capability = self.capability;
        if capability.access() == Access::Builtin {
            return Err(format!("every guest has `{capability}`; it needs no grant"));
        }
        let shape = capability.grant_shape();
        self.validate_kinds(&shape.kinds)?;
        if shape.namespaced && self.namespaces.is_empty() {
            return Err(format!(
                "`namespaces` is missing: {capability} works on namespaced objects; use `[\"*\"]` \
                 for all namespaces"
            ));
        }
        self.validate_fields(shape.fields)?;
        self.max.validate(capability)?;
        if self.movers.is_some() && !shape.movers {
            let all = Capability::grantable().filter(|other| other.grant_shape().movers);
            let all: Vec<&str> = all.map(Capability::name).collect();
            return Err(format!("`movers` applies to {} only", all.join(", ")));
        }
        let for_writes = [
            (self.label_selector.is_some(), "labelSelector"),
            (self.approval.is_some(), "approval"),
            (self.evidence.is_some(), "evidence"),
        ];
        match for_writes.iter().find(|(is_set, _)| *is_set && capability.access() != Access::Write)
        {
            Some((_, key)) => {
                Err(format!("`{key}` applies to writes only, and {capability} only reads"))
            }
            None => Ok(()),
        }
    }

    /// Checks the labels and the mover of an object before it is changed.
    ///
    /// # Errors
    /// What does not match, and what would.
    pub(super) fn matches_object(&self, object: &Value) -> Result<(), (String, String)> {
        if let Some(selector) =
            self.label_selector.as_ref().filter(|selector| !selector.matches(object))
        {
            // The guest sees the denial, and may not be granted to read the labels.
            let text =
                |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let (kind, namespace, name) =
                (text("/kind").to_lowercase(), text("/metadata/namespace"), text("/metadata/name"));
            let matches = format!(
                "a `labelSelector` that matches what `kubectl get {kind} {name} -n {namespace} \
                 --show-labels` prints"
            );
            return Err((format!("labels do not match selector {:?}", selector.as_str()), matches));
        }
        if let Some(movers) = &self.movers {
            let sections = object["spec"].as_object().into_iter().flatten();
            let found: Vec<&str> = sections.filter_map(|(key, _)| mover_of_section(key)).collect();
            if found.is_empty()
                || !found.iter().all(|mover| movers.iter().any(|granted| granted == mover))
            {
                return Err((
                    format!("its mover is not one of {}", movers.join(", ")),
                    format!("`movers: [{}]`", found.join(", ")),
                ));
            }
        }
        Ok(())
    }

    fn validate_fields(&self, required: bool) -> Result<(), String> {
        let capability = self.capability;
        match (&self.fields, required) {
            (None, false) => Ok(()),
            (None, true) => {
                Err(format!("`fields` is missing: {capability} needs it, such as [spec.replicas]"))
            }
            (Some(_), false) => Err(format!("`fields` does not apply to {capability}")),
            (Some(fields), true) => {
                fields.iter().try_for_each(|field| match footprint::parse_field(field) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(format!("`fields`: {}", error.text())),
                })
            }
        }
    }

    /// A kind that can never match would be a grant that silently grants nothing.
    fn validate_kinds(&self, shape: &GrantKinds) -> Result<(), String> {
        let capability = self.capability;
        match (shape, &self.kinds) {
            (GrantKinds::None, None) | (GrantKinds::Known(_), None) => Ok(()),
            (GrantKinds::None, Some(_)) => Err(format!("`kinds` does not apply to {capability}")),
            (GrantKinds::Any | GrantKinds::Named, None) => {
                Err(format!("`kinds` is missing: {capability} needs it, such as [jobs.batch]"))
            }
            (GrantKinds::Named, Some(kinds)) if kinds.iter().any(|kind| !kind.is_plain()) => {
                Err(format!("`kinds`: {capability} needs names, not patterns"))
            }
            // mutant secrets-in-generated-role: is_plain ~> is_every
            (GrantKinds::Any | GrantKinds::Named, Some(kinds)) => kinds
                .iter()
                .filter(|kind| kind.is_plain())
                .try_for_each(|kind| {
                    let kind = Kind::parse(kind.as_str())?;
                    match shape {
                        GrantKinds::Named => kind.validate_writable(),
                        GrantKinds::None | GrantKinds::Known(_) | GrantKinds::Any => Ok(()),
                    }
                })
                .map_err(|error: Error| format!("`kinds`: {error}")),
            (GrantKinds::Known(known), Some(kinds)) => {
                match kinds.iter().find(|glob| !known.iter().any(|kind| glob.matches(kind))) {
                    Some(unknown) => Err(unknown_kind(unknown.as_str(), known)),
                    None => Ok(()),
                }
            }
        }
    }

    pub(super) fn matches(&self, capability: Capability, target: &Target) -> bool {
        let kind = match (&self.kinds, &target.kind) {
            (None, _) => !capability.requires_kinds(),
            (Some(kinds), Some(kind)) => kinds.iter().any(|g| g.matches(&kind.resource)),
            (Some(_), None) => true,
        };
        let namespace = match &target.namespace {
            Some(ns) => self.namespaces.iter().any(|g| g.matches(ns)),
            None => self.namespaces.is_empty(),
        };
        let name = match &target.name {
            Some(name) => self.names.iter().any(|g| g.matches(name)),
            None => is_every(&self.names),
        };
        // mutant namespace-not-compared: namespace && name ~> name
        self.capability == capability && kind && namespace && name
    }
}

/// Names the kind that an older spelling means, such as `helm-release`.
fn unknown_kind(kind: &str, known: &[String]) -> String {
    let compact = kind.replace('-', "");
    let meant = known.iter().find(|known| {
        let plural = known.split('.').next().unwrap_or_default();
        plural == compact
            || plural.strip_suffix('s') == Some(compact.as_str())
            || plural.strip_suffix("ies").is_some_and(|stem| compact == format!("{stem}y"))
    });
    let kind = crate::sanitize::sanitized(kind);
    match meant {
        Some(meant) => format!("`kinds`: {kind:?} is written `{meant}`"),
        None => format!("`kinds`: unknown kind {kind:?}; known: {}", known.join(", ")),
    }
}

/// The movers of VolSync, as grants write them.
pub const MOVERS: [&str; 7] =
    ["restic", "rclone", "rsync", "rsync-tls", "syncthing", "kopia", "external"];

/// Returns the mover that a section of a ReplicationSource's spec configures. VolSync writes
/// `rsyncTLS` for `rsync-tls`.
pub fn mover_of_section(key: &str) -> Option<&'static str> {
    let key = key.to_lowercase();
    MOVERS.into_iter().find(|mover| mover.replace('-', "") == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_spelling_of_a_kind_is_an_error_that_names_the_new_one() {
        for (old, new) in [
            ("kustomization", "kustomizations.kustomize.toolkit.fluxcd.io"),
            ("helm-release", "helmreleases.helm.toolkit.fluxcd.io"),
            ("git-repository", "gitrepositories.source.toolkit.fluxcd.io"),
            ("oci-repository", "ocirepositories.source.toolkit.fluxcd.io"),
            ("bucket", "buckets.source.toolkit.fluxcd.io"),
            ("replication-source", "replicationsources.volsync.backube"),
            ("persistent-volume-claim", "persistentvolumeclaims"),
            ("deployment", "deployments.apps"),
        ] {
            let with_kind = |kind: &str| Grant {
                kinds: Some(vec![Glob::new(kind).unwrap()]),
                ..Grant::whole(Capability::QueryFlux)
            };
            let error = with_kind(old).validate().unwrap_err();
            assert_eq!(error, format!("`kinds`: {old:?} is written `{new}`"));
            assert_eq!(with_kind(new).validate(), Ok(()));
        }
    }

    #[test]
    fn a_kind_that_the_capability_does_not_have_is_an_error() {
        let grant = Grant {
            kinds: Some(vec![Glob::new("deployments.apps").unwrap()]),
            ..Grant::whole(Capability::SuspendFlux)
        };
        let error = grant.validate().unwrap_err();
        assert!(
            error.contains("unknown kind \"deployments.apps\"; known: kustomizations."),
            "{error}"
        );
    }
}
