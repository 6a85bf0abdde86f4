//! Which requests a run may have to send: the rules of its functions, applied to its grants.

use crate::capability::cluster_lock::{LEASE, LEASE_NAMESPACES};
use crate::capability::host::Request;
use crate::capability::{Access, Capability, Function, GrantKinds};
use crate::footprint::{FieldPath, Rule, Scope, Verb};
use crate::glob::Glob;
use crate::grants::{Evidence, Grant, Grants};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A cluster-scoped kind.
    Cluster,
    /// Any namespace: a Role cannot be for a pattern.
    Everywhere,
    Namespace(String),
}

/// One verb on one resource in one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub place: Place,
    /// Empty for core.
    pub group: String,
    pub resource: String,
    pub subresource: Option<&'static str>,
    pub verb: Verb,
}

/// Patterns that a request's namespace and name have to match.
pub type Pattern = (String, String);

/// Which objects a request may concern, and what for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// None if any name is possible.
    pub names: Option<BTreeSet<String>>,
    pub functions: BTreeSet<Function>,
    /// For requests that name an object.
    pub patterns: BTreeSet<Pattern>,
    /// The fields that a patch may set, each with the patterns for which it is granted.
    pub fields: BTreeMap<FieldPath, BTreeSet<Pattern>>,
}

/// All requests that a run may send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub all: BTreeMap<Key, Need>,
    /// What no Role can express, one sentence each.
    pub inexpressible: BTreeSet<String>,
}

/// Reviews of the credential itself: every authenticated user may send them.
const REVIEWS: [&str; 2] = ["selfsubjectreviews", "selfsubjectaccessreviews"];

fn place_of(namespace: &Glob) -> (Place, &str) {
    let place = if namespace.is_plain() {
        Place::Namespace(namespace.as_str().into())
    } else {
        Place::Everywhere
    };
    (place, namespace.as_str())
}

impl Needs {
    /// Returns what a run needs that calls these functions under these grants, with the host's own
    /// functions. `undo` adds what recreating deleted objects needs.
    pub fn new(functions: &BTreeSet<Function>, grants: &Grants, undo: bool) -> Self {
        let mut needs = Self::default();
        let mut functions = functions.clone();
        functions.extend([Function::GetIdentity, Function::GetHolder, Function::AcquireLease]);
        if undo {
            let undone_by: Vec<Function> =
                functions.iter().filter_map(|function| function.undone_by()).collect();
            functions.extend(undone_by);
        }
        let reversals: Vec<Function> =
            functions.iter().filter_map(|function| function.reversed_by()).collect();
        functions.extend(reversals);
        for function in functions {
            let capability = function.capability();
            if capability.access() == Access::Internal {
                function.requests(None).iter().for_each(|rule| needs.add_internal(function, rule));
                continue;
            }
            for grant in intersections(grants, capability) {
                needs.note_patterns(capability, &grant);
                for rule in function.requests(Some(&grant)) {
                    needs.add_granted(function, &rule, &grant);
                }
            }
        }
        needs
    }

    /// Notes kinds that no Role can name.
    fn note_patterns(&mut self, capability: Capability, grant: &Grant) {
        if capability.grant_shape().kinds != GrantKinds::Any {
            return;
        }
        for kind in grant.kinds.iter().flatten().filter(|kind| !kind.is_plain()) {
            self.inexpressible.insert(format!(
                "{capability} is granted for kinds matching {:?}: a Role without wildcards has to \
                 name them",
                kind.as_str()
            ));
        }
    }

    /// Adds a rule of the host's own functions.
    fn add_internal(&mut self, function: Function, rule: &Rule) {
        match rule.scope {
            Scope::Object(name) => {
                self.add(function, rule, Place::Cluster, Some(name));
            }
            Scope::Cluster => {
                self.add(function, rule, Place::Cluster, None);
            }
            // The Lease, in the namespace that is created for it. A run without that namespace may
            // hold one in the other.
            Scope::Target | Scope::Effect | Scope::GrantedNamespaces | Scope::Everywhere => {
                // A Role cannot name an object that is created: an admission policy does.
                let name = (rule.verb != Verb::Create).then_some(LEASE);
                let [namespace, other] = LEASE_NAMESPACES;
                if !rule.verb.mutates() {
                    self.add(function, rule, Place::Namespace(other.into()), name);
                }
                let need = self.add(function, rule, Place::Namespace(namespace.into()), name);
                if let Some(need) = need.filter(|_| rule.verb == Verb::Create) {
                    need.patterns.insert((namespace.into(), LEASE.into()));
                }
            }
        }
    }

    /// Adds a rule of a guest's function as far as a grant allows it.
    fn add_granted(&mut self, function: Function, rule: &Rule, grant: &Grant) {
        let places: Vec<(Place, &str)> = match (rule.scope, grant.namespaces.as_slice()) {
            (Scope::Cluster, _) => {
                self.add(function, rule, Place::Cluster, None);
                return;
            }
            (Scope::Object(name), _) => {
                self.add(function, rule, Place::Cluster, Some(name));
                return;
            }
            (
                Scope::Effect | Scope::Target | Scope::GrantedNamespaces | Scope::Everywhere,
                namespaces,
            ) => match namespaces {
                [] => vec![(Place::Cluster, "")],
                namespaces => namespaces.iter().map(place_of).collect(),
            },
        };
        // A list has no name, and neither do requests along the way.
        let unnamed = rule.scope != Scope::Target || rule.verb == Verb::List;
        for (place, namespace) in places {
            if unnamed && !rule.verb.mutates() {
                self.add(function, rule, place, None);
                continue;
            }
            for glob in &grant.names {
                let name = glob.is_plain().then(|| glob.as_str()).filter(|_| !unnamed);
                let pattern = (namespace.to_owned(), glob.as_str().to_owned());
                let need = self.add(function, rule, place.clone(), name);
                let Some(need) = need else { continue };
                if rule.verb == Verb::Patch {
                    for field in function.granted_fields(grant) {
                        need.fields.entry(field).or_default().insert(pattern.clone());
                    }
                }
                need.patterns.insert(pattern);
            }
        }
    }

    /// Adds a request. Returns its need, unless it requires no permission.
    fn add(
        &mut self,
        function: Function,
        rule: &Rule,
        place: Place,
        name: Option<&str>,
    ) -> Option<&mut Need> {
        if REVIEWS.contains(&&*rule.resource) {
            return None;
        }
        let key = Key {
            place,
            group: rule.group.to_string(),
            resource: rule.resource.to_string(),
            subresource: rule.subresource,
            verb: rule.verb,
        };
        if key.place == Place::Everywhere {
            let capability = function.capability();
            let enforced = if capability.access() == Access::Write {
                "; the admission policies limit its changes to the pattern"
            } else {
                ""
            };
            self.inexpressible.insert(format!(
                "{capability} is granted for namespaces by a pattern: a Role has to name them, so \
                 it is bound in all namespaces{enforced}"
            ));
        }
        let name = name.map(str::to_owned);
        let need = match self.all.entry(key) {
            Entry::Vacant(entry) => {
                let names = name.map(|name| BTreeSet::from([name]));
                entry.insert(Need { names, ..Need::default() })
            }
            Entry::Occupied(entry) => {
                let need = entry.into_mut();
                // A request for any object includes the named ones.
                need.names = need.names.take().zip(name).map(|(mut names, name)| {
                    names.insert(name);
                    names
                });
                need
            }
        };
        need.functions.insert(function);
        Some(need)
    }

    /// Adds what a run needs to check that these admission policies exist.
    pub fn add_policy_checks(&mut self, names: &[String]) {
        for rule in Function::CheckPolicies.requests(None) {
            for name in names {
                self.add(Function::CheckPolicies, &rule, Place::Cluster, Some(name));
            }
        }
    }

    /// Returns the single requests, for access reviews.
    pub fn requests(&self) -> Vec<Request> {
        let mut requests = vec![];
        for (key, need) in &self.all {
            let namespace = match &key.place {
                Place::Namespace(name) => Some(name.clone()),
                Place::Cluster | Place::Everywhere => None,
            };
            let request = |name: Option<String>| Request {
                verb: key.verb.as_str().into(),
                group: key.group.clone(),
                resource: key.resource.clone(),
                subresource: key.subresource.map(str::to_owned),
                namespace: namespace.clone(),
                name,
            };
            match &need.names {
                Some(names) => {
                    requests.extend(names.iter().map(|name| request(Some(name.clone()))))
                }
                None => requests.push(request(None)),
            }
        }
        requests
    }
}

/// Returns the grants of a capability that apply in every layer: each combination of grants,
/// intersected. Never narrower than what [`Grants::decide`] allows.
pub fn intersections(grants: &Grants, capability: Capability) -> Vec<Grant> {
    let of = |layer: &crate::grants::Layer| -> Vec<Grant> {
        let grants = layer.grants.iter().filter(|grant| grant.capability == capability);
        grants.cloned().collect()
    };
    let Some((first, rest)) = grants.layers.split_first() else { return vec![] };
    rest.iter().fold(of(first), |combined, layer| {
        combined
            .iter()
            .flat_map(|one| of(layer).into_iter().filter_map(|other| intersect(one, &other)))
            .collect()
    })
}

fn intersect(one: &Grant, other: &Grant) -> Option<Grant> {
    let kinds = match (&one.kinds, &other.kinds) {
        (Some(one), Some(other)) => Some(intersect_globs(one, other)),
        (Some(kinds), None) | (None, Some(kinds)) => Some(kinds.clone()),
        (None, None) => None,
    };
    // Without namespaces, a grant is for cluster-scoped objects.
    if one.namespaces.is_empty() != other.namespaces.is_empty() {
        return None;
    }
    let (namespaces, names) = (
        intersect_globs(&one.namespaces, &other.namespaces),
        intersect_globs(&one.names, &other.names),
    );
    let movers = match (&one.movers, &other.movers) {
        (Some(one), Some(other)) => {
            Some(one.iter().filter(|mover| other.contains(mover)).cloned().collect::<Vec<_>>())
        }
        (one, other) => one.as_ref().or(other.as_ref()).cloned(),
    };
    let fields = match (&one.fields, &other.fields) {
        (Some(one), Some(other)) => {
            Some(one.iter().filter(|field| other.contains(field)).cloned().collect::<Vec<_>>())
        }
        (one, other) => one.as_ref().or(other.as_ref()).cloned(),
    };
    let nothing = kinds.as_ref().is_some_and(Vec::is_empty)
        || names.is_empty()
        || (namespaces.is_empty() && !one.namespaces.is_empty())
        || movers.as_ref().is_some_and(Vec::is_empty)
        || fields.as_ref().is_some_and(Vec::is_empty);
    (!nothing).then(|| Grant {
        capability: one.capability,
        kinds,
        namespaces,
        names,
        fields,
        label_selector: one
            .label_selector
            .iter()
            .chain(&other.label_selector)
            .cloned()
            .reduce(|one, other| one.and(&other)),
        movers,
        max: one.max.clone().least(&other.max),
        approval: one.approval.or(other.approval),
        evidence: one.evidence.iter().chain(&other.evidence).cloned().reduce(Evidence::and),
    })
}

/// Returns what matches a glob of both lists. Of two patterns it keeps the narrower one, or either
/// if that is not clear: never too little.
fn intersect_globs(one: &[Glob], other: &[Glob]) -> Vec<Glob> {
    let mut common: Vec<Glob> = vec![];
    for a in one {
        for b in other {
            let both = match (a.is_plain(), b.is_plain()) {
                (true, _) => b.matches(a.as_str()).then_some(a),
                (_, true) => a.matches(b.as_str()).then_some(b),
                (false, false) if are_disjoint(a, b) => None,
                (false, false) => Some(if within(b, a) { b } else { a }),
            };
            if let Some(glob) = both
                && !common.contains(glob)
            {
                common.push(glob.clone());
            }
        }
    }
    common
}

/// Returns whether every name that matches `one` matches `other`, which has only `*`: that also
/// matches the characters of a pattern.
fn within(one: &Glob, other: &Glob) -> bool {
    !other.as_str().contains(['?', '[', '{', '\\']) && other.matches(one.as_str())
}

/// Returns whether no name can match both patterns, because they begin or end differently. False
/// negatives are possible.
fn are_disjoint(a: &Glob, b: &Glob) -> bool {
    let meta = ['*', '?', '[', '{', '\\', ']', '}'];
    let begin = |glob: &Glob| glob.as_str().split(meta).next().unwrap_or_default().to_owned();
    let end = |glob: &Glob| glob.as_str().rsplit(meta).next().unwrap_or_default().to_owned();
    let ((one, other), (last, least)) = ((begin(a), begin(b)), (end(a), end(b)));
    !(one.starts_with(&other) || other.starts_with(&one))
        || !(last.ends_with(&least) || least.ends_with(&last))
}

/// Returns the functions that a component imports: by interface, the names that it imports. A
/// resource's method belongs to its interface.
pub fn functions<'a, 'b>(
    imported: impl IntoIterator<Item = (&'a str, &'b [String])>,
) -> BTreeSet<Function> {
    imported
        .into_iter()
        .filter_map(|(interface, names)| Some((Capability::of_interface(interface)?, names)))
        .flat_map(|(capability, names)| functions_of(capability, names))
        .collect()
}

fn functions_of(capability: Capability, imported: &[String]) -> BTreeSet<Function> {
    let is_imported = |function: &Function| {
        let name = function.name().rsplit('.').next();
        imported.iter().any(|imported| imported.rsplit('.').next() == name)
    };
    let named: BTreeSet<Function> = capability.functions().filter(is_imported).collect();
    match capability.access() {
        // Its functions have other names in the contract.
        Access::Read | Access::Write if named.is_empty() => capability.functions().collect(),
        Access::Read | Access::Write | Access::Builtin | Access::Internal => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_patterns_that_cannot_overlap_are_dropped() {
        let glob = |text: &str| Glob::new(text).unwrap();
        let intersected = |one: &[&str], other: &[&str]| {
            let globs = |list: &[&str]| list.iter().map(|text| glob(text)).collect::<Vec<_>>();
            intersect_globs(&globs(one), &globs(other))
                .iter()
                .map(|glob| glob.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            intersected(&["*-provisioner", "*-ctrlplugin"], &["*-provisioner"]),
            ["*-provisioner"]
        );
        assert_eq!(intersected(&["csi-*"], &["csi-rbd*", "nfs-*"]), ["csi-rbd*"]);
        assert_eq!(intersected(&["*"], &["a*", "b"]), ["a*", "b"]);
        assert_eq!(intersected(&["media", "home-automation"], &["home-*"]), ["home-automation"]);
        assert_eq!(
            intersected(&["{ai,media}"], &["m*"]),
            ["{ai,media}"],
            "kept if that is not clear"
        );
        assert_eq!(intersected(&["a?"], &["[ab]b"]), ["a?"], "kept if that is not clear");
    }
}
