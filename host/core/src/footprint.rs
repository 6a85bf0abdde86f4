//! Which requests an effect may make, and what a write may change: one table.
//!
//! The check on each outgoing request reads it; the Role that a credential needs is written from it.

use crate::effect::host::LEASE_NAMESPACES;
use crate::effect::query_flux::SubjectKind;
use crate::effect::shared::FluxKind;
use crate::effect::{Effect, Function, Target};
use crate::glob::Glob;
use serde_json::Value;

/// What a request does, in RBAC's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Patch,
    Delete,
}

impl Verb {
    /// As RBAC spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
    /// It changes something.
    pub fn mutates(self) -> bool {
        match self {
            Self::Get | Self::List | Self::Watch => false,
            Self::Create | Self::Patch | Self::Delete => true,
        }
    }
}

/// Where a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Kinds without a namespace.
    Cluster,
    /// This one object without a namespace.
    Object(&'static str),
    /// The namespaces that the effect names.
    Effect,
    /// Exactly the objects that the effect names.
    Target,
    /// A namespace that an object pointed at, if the capability is granted there.
    GrantedNamespaces,
    /// Anywhere: the host's own census.
    Everywhere,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// The verb.
    pub verb: Verb,
    /// The API group; empty for core, `*` for the kind that the effect names.
    pub group: &'static str,
    /// The plural; `*` for the kind that the effect names.
    pub resource: &'static str,
    /// The subresource, if one.
    pub subresource: Option<&'static str>,
    /// Where.
    pub scope: Scope,
}

const fn rule(verb: Verb, group: &'static str, resource: &'static str, scope: Scope) -> Rule {
    Rule { verb, group, resource, subresource: None, scope }
}

const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
const HELM: &str = "helm.toolkit.fluxcd.io";
const SOURCE: &str = "source.toolkit.fluxcd.io";
const VOLSYNC: &str = "volsync.backube";
const SNAPSHOT: &str = "snapshot.storage.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const COORDINATION: &str = "coordination.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

macro_rules! flux_rules {
    ($verb:ident, $scope:ident) => {
        [
            rule(Verb::$verb, KUSTOMIZE, "kustomizations", Scope::$scope),
            rule(Verb::$verb, HELM, "helmreleases", Scope::$scope),
            rule(Verb::$verb, SOURCE, "gitrepositories", Scope::$scope),
            rule(Verb::$verb, SOURCE, "ocirepositories", Scope::$scope),
            rule(Verb::$verb, SOURCE, "buckets", Scope::$scope),
        ]
    };
}

/// Who owns an object: what their labels can name.
macro_rules! owner_rules {
    ($scope:ident) => {
        [
            rule(Verb::Get, KUSTOMIZE, "kustomizations", Scope::$scope),
            rule(Verb::Get, HELM, "helmreleases", Scope::$scope),
        ]
    };
}

const fn join<const A: usize, const B: usize, const C: usize>(
    a: [Rule; A],
    b: [Rule; B],
) -> [Rule; C] {
    assert!(A + B == C);
    let mut out = [rule(Verb::Get, "", "", Scope::Cluster); C];
    let mut i = 0;
    while i < A {
        out[i] = a[i];
        i += 1;
    }
    while i < C {
        out[i] = b[i - A];
        i += 1;
    }
    out
}

const IDENTITY: &[Rule] = &[
    rule(Verb::Get, "", "namespaces", Scope::Object("kube-system")),
    rule(Verb::Create, "authentication.k8s.io", "selfsubjectreviews", Scope::Cluster),
];
const REVIEW_ACCESS: &[Rule] =
    &[rule(Verb::Create, "authorization.k8s.io", "selfsubjectaccessreviews", Scope::Cluster)];
// mutant token-for-any-account: Target ~> Everywhere
const TOKEN: &[Rule] = &[Rule {
    verb: Verb::Create,
    group: "",
    resource: "serviceaccounts",
    subresource: Some("token"),
    scope: Scope::Target,
}];
const POLICIES: &[Rule] = &[
    rule(Verb::Get, ADMISSION, "validatingadmissionpolicies", Scope::Target),
    rule(Verb::Get, ADMISSION, "validatingadmissionpolicybindings", Scope::Target),
];
const LEASE: &[Rule] = &[
    rule(Verb::Get, "", "namespaces", Scope::Object(LEASE_NAMESPACES[0])),
    rule(Verb::Get, COORDINATION, "leases", Scope::Target),
];
const ACQUIRE_LEASE: &[Rule] = &[
    rule(Verb::Get, "", "namespaces", Scope::Object(LEASE_NAMESPACES[0])),
    rule(Verb::Get, COORDINATION, "leases", Scope::Target),
    rule(Verb::Create, COORDINATION, "leases", Scope::Effect),
];
const RELEASE_LEASE: &[Rule] = &[
    rule(Verb::Get, COORDINATION, "leases", Scope::Target),
    rule(Verb::Delete, COORDINATION, "leases", Scope::Target),
];
const LEFTOVERS: &[Rule] = &flux_rules!(List, Everywhere);
const FLUX_OWNERS: &[Rule] = &join::<3, 2, 5>(
    [
        rule(Verb::Get, VOLSYNC, "replicationsources", Scope::Target),
        rule(Verb::Get, "", "persistentvolumeclaims", Scope::Target),
        rule(Verb::Get, "apps", "deployments", Scope::Target),
    ],
    owner_rules!(GrantedNamespaces),
);
const FLUX_GET: &[Rule] =
    &join::<5, 2, 7>(flux_rules!(Get, Target), owner_rules!(GrantedNamespaces));
const SOURCES: &[Rule] = &[
    rule(Verb::List, VOLSYNC, "replicationsources", Scope::Effect),
    rule(Verb::List, "", "persistentvolumeclaims", Scope::Effect),
];
const DESTINATIONS: &[Rule] =
    &[rule(Verb::List, VOLSYNC, "replicationdestinations", Scope::Effect)];
const CLAIMS: &[Rule] = &[
    rule(Verb::List, "", "persistentvolumeclaims", Scope::Effect),
    rule(Verb::List, "", "events", Scope::Effect),
    rule(Verb::List, "", "persistentvolumes", Scope::Cluster),
    rule(Verb::List, STORAGE, "storageclasses", Scope::Cluster),
];
const SNAPSHOTS: &[Rule] = &[rule(Verb::List, SNAPSHOT, "volumesnapshots", Scope::Effect)];
const FIND_DRIVER: &[Rule] = &[
    rule(Verb::List, STORAGE, "storageclasses", Scope::Cluster),
    rule(Verb::List, STORAGE, "csidrivers", Scope::Cluster),
    rule(Verb::List, "apps", "deployments", Scope::Effect),
    rule(Verb::List, "", "pods", Scope::Effect),
    rule(Verb::List, COORDINATION, "leases", Scope::Effect),
    rule(Verb::List, "ceph.rook.io", "cephclusters", Scope::Effect),
];
const PODS: &[Rule] = &[rule(Verb::List, "", "pods", Scope::Effect)];
const LIST_OBJECTS: &[Rule] = &[rule(Verb::List, "*", "*", Scope::Effect)];
const GET_OBJECT: &[Rule] = &[rule(Verb::Get, "*", "*", Scope::Target)];
const LOG_PAGE: &[Rule] = &[
    rule(Verb::Get, "apps", "deployments", Scope::Target),
    rule(Verb::List, "", "pods", Scope::Effect),
    Rule {
        verb: Verb::Get,
        group: "",
        resource: "pods",
        subresource: Some("log"),
        scope: Scope::Effect,
    },
];
const AWAIT_ROLLOUT: &[Rule] = &[
    rule(Verb::Get, "apps", "deployments", Scope::Target),
    rule(Verb::List, "", "pods", Scope::Effect),
    rule(Verb::List, COORDINATION, "leases", Scope::Effect),
];
const FLUX_WRITE: &[Rule] = &join::<5, 5, 10>(flux_rules!(Get, Target), flux_rules!(Patch, Target));
// The parent is read, too: one that would undo the suspend makes it pointless.
const SUSPEND: &[Rule] = &join::<2, 10, 12>(
    owner_rules!(GrantedNamespaces),
    join::<5, 5, 10>(flux_rules!(Get, Target), flux_rules!(Patch, Target)),
);
const DELETE: &[Rule] = &[
    rule(Verb::Get, VOLSYNC, "replicationsources", Scope::Target),
    rule(Verb::Delete, VOLSYNC, "replicationsources", Scope::Target),
];
const RECREATE: &[Rule] = &[
    rule(Verb::Get, VOLSYNC, "replicationsources", Scope::Target),
    rule(Verb::Create, VOLSYNC, "replicationsources", Scope::Effect),
];
const RESTART: &[Rule] = &[
    rule(Verb::Get, "apps", "deployments", Scope::Target),
    rule(Verb::Patch, "apps", "deployments", Scope::Target),
    rule(Verb::List, "", "pods", Scope::Effect),
    rule(Verb::Get, "", "pods", Scope::Effect),
    rule(Verb::Delete, "", "pods", Scope::Effect),
];

/// The only fields that a write may set: paths into the patch. `metadata.uid` and
/// `metadata.resourceVersion` are preconditions and may always stand there.
const SUSPEND_FIELDS: &[&[&str]] = &[
    &["spec", "suspend"],
    &["metadata", "annotations", crate::effect::suspend_flux::RUN],
    &["metadata", "annotations", crate::effect::suspend_flux::REASON],
    &["metadata", "annotations", crate::effect::suspend_flux::DEADLINE],
    &["metadata", "annotations", crate::effect::suspend_flux::PRIOR],
];
const RECONCILE_FIELDS: &[&[&str]] = &[
    &["metadata", "annotations", "reconcile.fluxcd.io/requestedAt"],
    &["metadata", "annotations", "reconcile.fluxcd.io/forceAt"],
];
const RESTART_FIELDS: &[&[&str]] =
    &[&["spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt"]];

/// What a function may ask of the API server, and the fields that its writes may change.
pub fn table(function: Function) -> (&'static [Rule], &'static [&'static [&'static str]]) {
    match function {
        Function::Now | Function::Sleep | Function::Step | Function::Note | Function::AskUser => {
            (&[], &[])
        }
        Function::GetIdentity => (IDENTITY, &[]),
        Function::ReviewAccess => (REVIEW_ACCESS, &[]),
        Function::RequestToken => (TOKEN, &[]),
        Function::CheckPolicies => (POLICIES, &[]),
        Function::Lease => (LEASE, &[]),
        Function::FindLeftovers => (LEFTOVERS, &[]),
        Function::FindOwners => (FLUX_OWNERS, &[]),
        Function::GetFluxObject => (FLUX_GET, &[]),
        Function::ListSources => (SOURCES, &[]),
        Function::ListDestinations => (DESTINATIONS, &[]),
        Function::ListPvcs => (CLAIMS, &[]),
        Function::ListSnapshots => (SNAPSHOTS, &[]),
        Function::FindDriver => (FIND_DRIVER, &[]),
        Function::ListPods => (PODS, &[]),
        Function::ListObjects => (LIST_OBJECTS, &[]),
        Function::GetObject => (GET_OBJECT, &[]),
        Function::NextPage => (LOG_PAGE, &[]),
        Function::AwaitRollout => (AWAIT_ROLLOUT, &[]),
        Function::AcquireLease => (ACQUIRE_LEASE, &[]),
        Function::ReleaseLease => (RELEASE_LEASE, &[]),
        Function::Suspend => (SUSPEND, SUSPEND_FIELDS),
        Function::Resume => (FLUX_WRITE, SUSPEND_FIELDS),
        Function::Reconcile => (FLUX_WRITE, RECONCILE_FIELDS),
        Function::Delete => (DELETE, &[]),
        Function::Recreate => (RECREATE, &[]),
        Function::Restart => (RESTART, RESTART_FIELDS),
    }
}

/// What one effect may ask of the API server. Travels with each of its requests.
#[derive(Clone, Debug)]
pub struct Footprint {
    effect: &'static str,
    rules: &'static [Rule],
    fields: &'static [&'static [&'static str]],
    targets: Vec<Target>,
    granted_namespaces: Vec<Glob>,
}

/// A request on its way out, as the path and the method say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// What it does.
    pub verb: Verb,
    /// The API group; empty for core.
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
    /// The subresource, if one.
    pub subresource: Option<&'a str>,
    /// The namespace, if one.
    pub namespace: Option<&'a str>,
    /// The name, if one.
    pub name: Option<&'a str>,
}

/// A request that its effect does not cover. Ours to mend, never to send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{effect} does not cover {what}")]
pub struct Breach {
    effect: &'static str,
    what: String,
    /// The rule exists, but the capability is not granted in that namespace.
    pub ungranted: bool,
}

impl Footprint {
    /// The footprint of `effect`, whose capability is granted in the namespaces `granted_namespaces`.
    pub fn new(effect: &Effect, granted_namespaces: Vec<Glob>) -> Self {
        let (rules, fields) = table(effect.function());
        Self { effect: effect.name(), rules, fields, targets: effect.targets(), granted_namespaces }
    }

    /// The effect's name.
    pub fn effect(&self) -> &'static str {
        self.effect
    }

    /// Whether the effect may make this request.
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
                        && of_kind(t, asked)
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
            asked.verb.word(),
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
            let word = if asked.group.is_empty() {
                asked.resource.to_owned()
            } else {
                format!("{}.{}", asked.resource, asked.group)
            };
            self.targets.iter().any(|t| t.kind.as_deref() == Some(&word))
                && !(asked.group.is_empty() && asked.resource == "secrets")
        } else {
            rule.group == asked.group && rule.resource == asked.resource
        };
        kind && rule.verb == asked.verb && rule.subresource == asked.subresource
    }

    /// Whether a new object is one that it may make: named as a target, with nothing in its metadata that would act by itself. A review,
    /// which is kept nowhere, names nothing; a token request, `below` an object, has that object in its path.
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
            return breach(format!("a new object named {}", name.unwrap_or("by the cluster")));
        }
        Ok(())
    }

    /// Whether a patch changes no other field than it may.
    pub fn covers_patch(&self, patch: &Value) -> Result<(), Breach> {
        let mut path = Vec::new();
        // mutant patch-changes-any-field: self.stray(patch, &mut path) ~> self.stray(patch, &mut path).filter(|_| false)
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
        if self.fields.contains(&here.as_slice()) && !value.is_object() && !value.is_array() {
            return None;
        }
        let on_the_way = self.fields.iter().any(|f| f.len() > here.len() && f.starts_with(&here))
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

/// A target with a kind is one object of one kind: its namesakes of the other kinds are none of its business.
fn of_kind(target: &Target, asked: &Asked<'_>) -> bool {
    let named = target.kind.as_deref().and_then(named);
    named.is_none_or(|(group, resource)| group == asked.group && resource == asked.resource)
}

/// The words of ours for kinds.
pub fn words() -> impl Iterator<Item = &'static str> {
    FluxKind::ALL
        .into_iter()
        .map(FluxKind::word)
        .chain(SubjectKind::ALL.into_iter().map(SubjectKind::word))
}

/// The group and the plural of a kind that grants name by a word of ours.
pub fn named(word: &str) -> Option<(&'static str, &'static str)> {
    let flux = FluxKind::ALL
        .into_iter()
        .find(|kind| kind.word() == word)
        .map(|kind| (kind.group(), kind.plural()));
    flux.or_else(|| {
        SubjectKind::ALL
            .into_iter()
            .find(|kind| kind.word() == word)
            .map(|kind| (kind.group(), kind.plural()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::shared::{FluxRef, ObjectRef};
    use crate::effect::{TypedCall, query_objects, query_pvcs, restart_deployment, suspend_flux};
    use serde_json::json;

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
        let ours = json!({"metadata": {"uid": "u", "resourceVersion": "1", "annotations": {"salve.dev/run": "r"}}, "spec": {"suspend": true}});
        assert!(footprint.covers_patch(&ours).is_ok());
        for stray in [
            json!({"spec": {"path": "./elsewhere"}}),
            json!({"spec": {"suspend": true, "sourceRef": {"name": "x"}}}),
            json!({"spec": {"suspend": {"x": 1}}}),
            json!({"spec": null}),
            json!({"metadata": {"finalizers": []}}),
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}}}),
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
        assert!(footprint.covers_patch(&json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}})).is_ok());
        assert!(footprint.covers_patch(&json!({"spec": {"template": {"spec": {"containers": [{"name": "x", "image": "evil"}]}}}})).is_err());
        assert!(footprint.covers_patch(&json!({"spec": {"replicas": 0}})).is_err());
    }

    #[test]
    fn a_generic_look_reaches_the_kind_it_names_and_never_secrets() {
        let kind = query_objects::Kind { group: "batch".into(), resource: "jobs".into() };
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
    fn a_followed_namespace_has_to_be_granted() {
        let effect = crate::effect::query_flux::FindOwners { subjects: vec![] }.effect();
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
    fn a_look_never_has_a_rule_that_changes_anything() {
        let pvcs = query_pvcs::ListPvcs { namespaces: vec!["media".into()] }.effect();
        let (rules, fields) = table(pvcs.function());
        assert!(fields.is_empty() && rules.iter().all(|r| !r.verb.mutates()));
    }
}
