//! Which requests an effect may send, and which fields its patches may set.
//!
//! The capabilities state their rules. The check on each outgoing request reads them here, and the
//! Role and the admission policies of a credential are derived from them.

use crate::capability::{Capability, Effect, Target};
use crate::glob::Glob;
use crate::outcome::Error;
use crate::sanitize::sanitized;
use serde_json::Value;
use std::borrow::Cow;

/// An RBAC verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Patch,
    Delete,
}

impl Verb {
    /// Returns the verb as RBAC writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    pub fn mutates(self) -> bool {
        match self {
            Self::Get | Self::List | Self::Watch => false,
            Self::Create | Self::Patch | Self::Delete => true,
        }
    }
}

/// Where a rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Cluster-scoped kinds.
    Cluster,
    /// This one cluster-scoped object.
    Object(&'static str),
    /// The namespaces that the effect names.
    Effect,
    /// Exactly the objects that the effect names.
    Target,
    /// A namespace that an object referred to, if the capability is granted there.
    GrantedNamespaces,
    /// Anywhere: the host's own search for leftovers.
    Everywhere,
}

/// A kind of request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    pub verb: Verb,
    /// Empty for core; `*` for the kind that the effect names.
    pub group: Cow<'static, str>,
    /// The plural; `*` for the kind that the effect names.
    pub resource: Cow<'static, str>,
    pub subresource: Option<&'static str>,
    pub scope: Scope,
}

impl Rule {
    pub fn new(
        verb: Verb,
        group: impl Into<Cow<'static, str>>,
        resource: impl Into<Cow<'static, str>>,
        scope: Scope,
    ) -> Self {
        Self { verb, group: group.into(), resource: resource.into(), subresource: None, scope }
    }

    #[must_use]
    pub fn with_subresource(self, subresource: &'static str) -> Self {
        Self { subresource: Some(subresource), ..self }
    }
}

/// A path of map keys to a field of a patch, such as `spec`, `suspend`. `metadata.uid` and
/// `metadata.resourceVersion` are preconditions and always allowed.
pub type FieldPath = Vec<String>;

pub fn field(path: &[&str]) -> FieldPath {
    path.iter().map(|key| (*key).to_owned()).collect()
}

/// Words that CEL reserves. An admission policy cannot name a field with one of them.
/// <https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax>
const RESERVED_IN_CEL: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Parses a path of a field below `spec`, such as `spec.replicas`. Keys have letters and digits.
///
/// # Errors
/// `Invalid`.
pub fn parse_field(text: &str) -> Result<FieldPath, Error> {
    let keys: Vec<&str> = text.split('.').collect();
    let is_key = |key: &&str| {
        key.starts_with(|first: char| first.is_ascii_alphabetic())
            && key.bytes().all(|b| b.is_ascii_alphanumeric())
            && !RESERVED_IN_CEL.contains(key)
    };
    if keys.len() < 2 || keys[0] != "spec" || !keys.iter().all(is_key) || text.len() > 63 {
        let shown = sanitized(&text.chars().take(80).collect::<String>());
        return Err(Error::Invalid(format!(
            "{shown:?} is not a field below `spec`, such as spec.replicas (each key a letter, then \
             letters and digits; no word that CEL reserves; at most 63 characters)"
        )));
    }
    Ok(field(&keys))
}

/// What one effect may send. It travels with each of its requests.
#[derive(Clone, Debug)]
pub struct Footprint {
    effect: &'static str,
    capability: Capability,
    rules: Vec<Rule>,
    fields: Vec<FieldPath>,
    targets: Vec<Target>,
    granted_namespaces: Vec<Glob>,
}

/// A request, by its method and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    pub verb: Verb,
    /// Empty for core.
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: Option<&'a str>,
    pub namespace: Option<&'a str>,
    pub name: Option<&'a str>,
}

/// A request outside the footprint of its effect: a bug in Salve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{effect} does not cover {what}")]
pub struct Breach {
    effect: &'static str,
    what: String,
    /// There is such a rule, but the capability is not granted in that namespace.
    pub ungranted: bool,
}

impl Footprint {
    /// Creates the footprint of an effect whose capability is granted in `granted_namespaces`.
    pub fn new(effect: &Effect, granted_namespaces: Vec<Glob>) -> Self {
        Self {
            effect: effect.name(),
            capability: effect.capability(),
            rules: effect.function().requests(None),
            fields: effect.fields(),
            targets: effect.targets(),
            granted_namespaces,
        }
    }

    pub fn capability(&self) -> Capability {
        self.capability
    }

    pub fn effect(&self) -> &'static str {
        self.effect
    }

    /// # Errors
    /// The effect may not send this request.
    pub fn covers(&self, asked: &Asked<'_>) -> Result<(), Breach> {
        let mut ungranted = false;
        for rule in self.rules.iter().filter(|r| self.same_request(r, asked)) {
            let there = match rule.scope {
                Scope::Everywhere => true,
                Scope::Cluster => asked.namespace.is_none(),
                Scope::Object(name) => asked.namespace.is_none() && asked.name == Some(name),
                // mutant read-any-namespace: self.targets.iter().any(|t| t.namespace.as_deref() ==
                //     asked.namespace) ~> !self.targets.is_empty()
                Scope::Effect => {
                    self.targets.iter().any(|t| t.namespace.as_deref() == asked.namespace)
                }
                // mutant write-other-namespace: namespace.as_deref() == asked.namespace && t.name
                //     ~> name
                Scope::Target => self.targets.iter().any(|t| {
                    t.namespace.as_deref() == asked.namespace
                        && t.name.as_deref() == asked.name
                        && is_kind(t, asked)
                }),
                Scope::GrantedNamespaces => asked
                    .namespace
                    .is_some_and(|ns| self.granted_namespaces.iter().any(|g| g.matches(ns))),
            };
            if there {
                return Ok(());
            }
            ungranted |= rule.scope == Scope::GrantedNamespaces;
        }
        let what = format!(
            "{} {}{}{} {}/{}",
            asked.verb.as_str(),
            asked.resource,
            asked.subresource.map(|s| format!("/{s}")).unwrap_or_default(),
            if asked.group.is_empty() { String::new() } else { format!(".{}", asked.group) },
            asked.namespace.unwrap_or("-"),
            asked.name.unwrap_or("*"),
        );
        Err(Breach { effect: self.effect, what, ungranted })
    }

    fn same_request(&self, rule: &Rule, asked: &Asked<'_>) -> bool {
        let kind = if rule.resource == "*" {
            let is_named = |target: &Target| target.kind.is_some() && is_kind(target, asked);
            self.targets.iter().any(is_named)
                && !(asked.group.is_empty() && asked.resource == "secrets")
        } else {
            rule.group == asked.group && rule.resource == asked.resource
        };
        kind && rule.verb == asked.verb && rule.subresource == asked.subresource
    }

    /// Checks a new object: it is a target, and nothing in its metadata acts by itself. A review
    /// has no name; a token request, `below` an object, has that object in its path.
    ///
    /// # Errors
    /// The effect may not create this object.
    pub fn covers_new(
        &self,
        namespace: Option<&str>,
        below: Option<&str>,
        object: &Value,
    ) -> Result<(), Breach> {
        let breach = |what: String| Err(Breach { effect: self.effect, what, ungranted: false });
        let keys = |value: &Value| {
            value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
        };
        let is_kept = !self.targets.is_empty() && below.is_none();
        let allowed: &[&str] = if !is_kept {
            &["apiVersion", "kind", "spec"]
        } else {
            &["apiVersion", "kind", "metadata", "spec"]
        };
        if let Some(key) = keys(object).iter().find(|key| !allowed.contains(&key.as_str())) {
            return breach(format!("a new object with {key}"));
        }
        if !is_kept {
            return Ok(());
        }
        let metadata = &object["metadata"];
        if let Some(key) = keys(metadata)
            .iter()
            .find(|key| !["name", "namespace", "labels", "annotations"].contains(&key.as_str()))
        {
            return breach(format!("a new object with metadata.{key}"));
        }
        let name = metadata["name"].as_str();
        if name.is_none()
            || !self
                .targets
                .iter()
                .any(|t| t.namespace.as_deref() == namespace && t.name.as_deref() == name)
        {
            return breach(format!("a new object named {}", name.unwrap_or("by the API server")));
        }
        Ok(())
    }

    /// # Errors
    /// The patch sets a field that the effect may not set.
    pub fn covers_patch(&self, patch: &Value) -> Result<(), Breach> {
        let mut path = Vec::new();
        // mutant patch-changes-any-field: self.stray(patch, &mut path) ~> self.stray(patch, &mut
        //     path).filter(|_| false)
        match self.stray(patch, &mut path) {
            None => Ok(()),
            Some(field) => Err(Breach {
                effect: self.effect,
                what: format!("a change of {field}"),
                ungranted: false,
            }),
        }
    }

    fn stray(&self, value: &Value, path: &mut Vec<String>) -> Option<String> {
        let here: Vec<&str> = path.iter().map(String::as_str).collect();
        if matches!(here.as_slice(), ["metadata", "uid" | "resourceVersion"]) && value.is_string() {
            return None;
        }
        if self.fields.contains(path) && !value.is_object() && !value.is_array() {
            return None;
        }
        let on_the_way = self.fields.iter().any(|f| f.len() > path.len() && f.starts_with(path))
            || matches!(here.as_slice(), [] | ["metadata"]);
        match value {
            Value::Object(map) if on_the_way => map.iter().find_map(|(key, below)| {
                path.push(key.clone());
                let stray = self.stray(below, path);
                path.pop();
                stray
            }),
            Value::Object(_)
            | Value::Array(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_) => {
                Some(if here.is_empty() { "the whole object".into() } else { here.join(".") })
            }
        }
    }
}

/// Returns whether a request is for the kind of a target that has one.
fn is_kind(target: &Target, asked: &Asked<'_>) -> bool {
    target.kind.as_ref().is_none_or(|kind| {
        let (resource, group) =
            kind.resource.split_once('.').unwrap_or((kind.resource.as_str(), ""));
        (group, resource) == (asked.group, asked.resource)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::types::{FluxKind, FluxRef, Kind, ObjectRef};
    use crate::capability::{
        TypedCall, query_objects, query_pvcs, restart_deployment, suspend_flux,
    };
    use serde_json::json;

    const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
    const HELM: &str = "helm.toolkit.fluxcd.io";

    fn suspend() -> Footprint {
        let target = FluxRef {
            kind: FluxKind::Kustomization,
            namespace: "media".into(),
            name: "plex".into(),
        };
        Footprint::new(
            &suspend_flux::Suspend {
                targets: vec![target],
                reason: String::new(),
                drain_seconds: 1,
            }
            .effect(),
            vec![],
        )
    }

    fn asked<'a>(
        verb: Verb,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> Asked<'a> {
        Asked {
            verb,
            group,
            resource,
            subresource: None,
            namespace: Some(namespace),
            name: Some(name),
        }
    }

    #[test]
    fn a_write_reaches_its_target_and_no_other_object() {
        let footprint = suspend();
        assert!(
            footprint
                .covers(&asked(Verb::Patch, KUSTOMIZE, "kustomizations", "media", "plex"))
                .is_ok()
        );
        assert!(
            footprint
                .covers(&asked(Verb::Patch, KUSTOMIZE, "kustomizations", "media", "sonarr"))
                .is_err()
        );
        assert!(
            footprint
                .covers(&asked(Verb::Patch, KUSTOMIZE, "kustomizations", "flux-system", "plex"))
                .is_err()
        );
        assert!(
            footprint.covers(&asked(Verb::Patch, HELM, "helmreleases", "media", "plex")).is_err()
        );
        assert!(
            footprint
                .covers(&asked(Verb::Delete, KUSTOMIZE, "kustomizations", "media", "plex"))
                .is_err()
        );
        assert!(
            footprint.covers(&asked(Verb::Patch, "apps", "deployments", "media", "plex")).is_err()
        );
    }

    #[test]
    fn a_patch_changes_the_fields_of_its_effect_only() {
        let footprint = suspend();
        let annotations = json!({"salve.dev/run": "r"});
        let ours = json!({
            "metadata": {"uid": "u", "resourceVersion": "1", "annotations": annotations},
            "spec": {"suspend": true},
        });
        assert!(footprint.covers_patch(&ours).is_ok());
        for stray in [
            json!({"spec": {"path": "./elsewhere"}}),
            json!({"spec": {"suspend": true, "sourceRef": {"name": "x"}}}),
            json!({"spec": {"suspend": {"x": 1}}}),
            json!({"spec": null}),
            json!({"metadata": {"finalizers": []}}),
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({"metadata": {"annotations": {
                "kustomize.toolkit.fluxcd.io/reconcile": "disabled"
            }}}),
            json!({"metadata": {"annotations": null}}),
            json!([{"op": "replace", "path": "/spec/path", "value": "x"}]),
            json!("x"),
        ] {
            assert!(footprint.covers_patch(&stray).is_err(), "{stray}");
        }
    }

    #[test]
    fn a_restart_cannot_change_an_image() {
        let effect = restart_deployment::Restart {
            target: ObjectRef::new("rook-ceph", "x"),
            uid: "u".into(),
            strategy: restart_deployment::Strategy::Annotate,
        };
        let footprint = Footprint::new(&effect.effect(), vec![]);
        let covers_template = |template: Value| {
            footprint.covers_patch(&json!({"spec": {"template": template}})).is_ok()
        };
        let annotations = json!({"kubectl.kubernetes.io/restartedAt": "now"});
        assert!(covers_template(json!({"metadata": {"annotations": annotations}})));
        let containers = json!([{"name": "x", "image": "evil"}]);
        assert!(!covers_template(json!({"spec": {"containers": containers}})));
        assert!(footprint.covers_patch(&json!({"spec": {"replicas": 0}})).is_err());
    }

    #[test]
    fn a_generic_read_reaches_the_kind_it_names_and_never_secrets() {
        let kind = Kind { group: "batch".into(), resource: "jobs".into() };
        let effect = query_objects::ListObjects {
            kind,
            namespace: Some("media".into()),
            label_selector: None,
            limit: 10,
            next: None,
        };
        let footprint = Footprint::new(&effect.effect(), vec![]);
        let list = |group, resource, namespace| Asked {
            verb: Verb::List,
            group,
            resource,
            subresource: None,
            namespace,
            name: None,
        };
        assert!(footprint.covers(&list("batch", "jobs", Some("media"))).is_ok());
        assert!(footprint.covers(&list("batch", "cronjobs", Some("media"))).is_err());
        assert!(footprint.covers(&list("batch", "jobs", None)).is_err());
        assert!(footprint.covers(&list("", "secrets", Some("media"))).is_err());
    }

    #[test]
    fn a_referenced_namespace_must_be_granted() {
        let effect = crate::capability::query_flux::FindOwners { subjects: vec![] }.effect();
        let footprint = Footprint::new(&effect, vec![Glob::new("flux-*").unwrap()]);
        assert!(
            footprint
                .covers(&asked(Verb::Get, KUSTOMIZE, "kustomizations", "flux-system", "apps"))
                .is_ok()
        );
        assert!(
            footprint
                .covers(&asked(Verb::Get, KUSTOMIZE, "kustomizations", "kube-system", "apps"))
                .unwrap_err()
                .ungranted
        );
    }

    #[test]
    fn a_read_never_has_a_rule_that_changes_anything() {
        let pvcs = query_pvcs::ListPvcs { namespaces: vec!["media".into()] }.effect();
        assert!(pvcs.fields().is_empty());
        assert!(pvcs.function().requests(None).iter().all(|rule| !rule.verb.mutates()));
    }
}
