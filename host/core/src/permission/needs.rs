//! Which requests a run may have to make: the footprint table, laid over what is granted.

use crate::effect::host::{LEASE, LEASE_NAMESPACES, Request};
use crate::effect::query_objects::Kind;
use crate::effect::{Access, Function, access_of};
use crate::footprint::{Rule, Scope, Verb, named, table, words};
use crate::glob::Glob;
use crate::grants::{Evidence, Grant, Grants};
use std::collections::{BTreeMap, BTreeSet};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// To a kind without namespaces.
    Cluster,
    /// To any namespace: a pattern cannot be a namespace of a Role.
    Everywhere,
    /// To this namespace.
    Namespace(String),
}

/// What one verb on one resource needs, in one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Where.
    pub place: Place,
    /// The API group; empty for core.
    pub group: String,
    /// The plural.
    pub resource: String,
    /// The subresource, if one.
    pub subresource: Option<&'static str>,
    /// The verb.
    pub verb: Verb,
}

/// Which objects, and what for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Their names; none where any could be meant.
    pub names: Option<BTreeSet<String>>,
    /// The functions that ask for it.
    pub functions: BTreeSet<Function>,
    /// The patterns that namespace and name have to fit for each function, where the request names an object.
    pub fitting: BTreeMap<Function, BTreeSet<(String, String)>>,
}

impl Need {
    /// Of all functions.
    pub fn patterns(&self) -> impl Iterator<Item = &(String, String)> {
        self.fitting.values().flatten()
    }
}

/// All needs of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// By what they are.
    pub all: BTreeMap<Key, Need>,
    /// What no Role can say, for whoever grants.
    pub unsayable: BTreeSet<String>,
}

/// Reviews of oneself: everybody who is authenticated may ask.
const REVIEWS: [&str; 2] = ["selfsubjectreviews", "selfsubjectaccessreviews"];

impl Needs {
    /// What a run needs that calls these functions, under these grants. The host's own functions come with it; with `undo`, what
    /// re-creating deleted sources takes.
    pub fn of(functions: &BTreeSet<Function>, grants: &Grants, undo: bool) -> Self {
        let mut needs = Self::default();
        let mut functions = functions.clone();
        functions.extend([
            Function::GetIdentity,
            Function::Lease,
            Function::AcquireLease,
            Function::ReleaseLease,
        ]);
        if functions.contains(&Function::Suspend) {
            functions.insert(Function::Resume);
        }
        if undo && functions.contains(&Function::Delete) {
            functions.insert(Function::Recreate);
        }
        for function in functions {
            let (rules, _) = table(function);
            let capability = function.capability();
            if access_of(capability).is_none() {
                rules.iter().for_each(|rule| needs.hosts(function, rule));
                continue;
            }
            for grant in intersections(grants, capability) {
                rules.iter().for_each(|rule| needs.guests(function, rule, &grant));
            }
        }
        needs
    }

    /// The host's own: what it names is known.
    fn hosts(&mut self, function: Function, rule: &Rule) {
        match rule.scope {
            Scope::Object(name) => {
                self.add(function, rule, rule.resource, rule.group, Place::Cluster, Some(name))
            }
            Scope::Cluster => {
                self.add(function, rule, rule.resource, rule.group, Place::Cluster, None)
            }
            // The Lease, in the namespace that is made for it.
            Scope::Target | Scope::Effect | Scope::GrantedNamespaces | Scope::Everywhere => {
                let name = (rule.verb != Verb::Create).then_some(LEASE);
                self.add(
                    function,
                    rule,
                    rule.resource,
                    rule.group,
                    Place::Namespace(LEASE_NAMESPACES[0].into()),
                    name,
                );
            }
        }
    }

    /// A guest's, as far as this grant goes.
    fn guests(&mut self, function: Function, rule: &Rule, grant: &Grant) {
        match rule.scope {
            Scope::Cluster => {
                self.add(function, rule, rule.resource, rule.group, Place::Cluster, None)
            }
            Scope::Object(name) => {
                self.add(function, rule, rule.resource, rule.group, Place::Cluster, Some(name))
            }
            Scope::Effect | Scope::Target | Scope::GrantedNamespaces | Scope::Everywhere => {
                for (group, resource) in self.kinds(rule, grant) {
                    let places: Vec<(Place, &str)> = match grant.namespaces.as_slice() {
                        [] => vec![(Place::Cluster, "")],
                        namespaces => namespaces
                            .iter()
                            .map(|glob| {
                                (
                                    if glob.is_plain() {
                                        Place::Namespace(glob.as_str().into())
                                    } else {
                                        Place::Everywhere
                                    },
                                    glob.as_str(),
                                )
                            })
                            .collect(),
                    };
                    for (place, namespace) in places {
                        self.named(function, rule, (&group, &resource), place, namespace, grant);
                    }
                }
            }
        }
    }

    fn named(
        &mut self,
        function: Function,
        rule: &Rule,
        (group, resource): (&str, &str),
        place: Place,
        namespace: &str,
        grant: &Grant,
    ) {
        // A list has no name, and neither has what is asked along the way.
        let unnamed = rule.scope != Scope::Target || rule.verb == Verb::List;
        if unnamed && !rule.verb.mutates() {
            return self.add(function, rule, resource, group, place, None);
        }
        for glob in &grant.names {
            let name = glob.is_plain().then(|| glob.as_str()).filter(|_| !unnamed);
            let key = self.add_key(function, rule, resource, group, place.clone(), name);
            let need = self.all.get_mut(&key).expect("it was just added");
            need.fitting
                .entry(function)
                .or_default()
                .insert((namespace.to_owned(), glob.as_str().to_owned()));
        }
    }

    /// The kinds that a rule means under a grant: its own, unless the grant leaves it out; for `query-objects` the grant's.
    fn kinds(&mut self, rule: &Rule, grant: &Grant) -> Vec<(String, String)> {
        let Some(kinds) = &grant.kinds else {
            return vec![(rule.group.into(), rule.resource.into())];
        };
        if rule.resource != "*" {
            let mut meant = words()
                .filter(|word| kinds.iter().any(|glob| glob.matches(word)))
                .filter_map(named);
            // A kind that no word names (the pods of a Deployment) is asked along the way.
            let known = words().filter_map(named).any(|kind| kind == (rule.group, rule.resource));
            // Who owns an object is followed, whichever kinds may be asked about.
            let granted_namespaces = rule.scope == Scope::GrantedNamespaces;
            return if !known
                || granted_namespaces
                || meant.any(|kind| kind == (rule.group, rule.resource))
            {
                vec![(rule.group.into(), rule.resource.into())]
            } else {
                vec![]
            };
        }
        let mut found = vec![];
        for kind in kinds {
            if kind.is_plain() {
                // Of one that cannot be asked for, no Role shall tell.
                found.extend(
                    Kind::spelt(kind.as_str()).ok().map(|kind| (kind.group, kind.resource)),
                );
            } else {
                self.unsayable.insert(format!("query-objects is granted for kinds like {:?}: a Role without wildcards has to name them", kind.as_str()));
            }
        }
        found
    }

    fn add(
        &mut self,
        function: Function,
        rule: &Rule,
        resource: &str,
        group: &str,
        place: Place,
        name: Option<&str>,
    ) {
        self.add_key(function, rule, resource, group, place, name);
    }

    fn add_key(
        &mut self,
        function: Function,
        rule: &Rule,
        resource: &str,
        group: &str,
        place: Place,
        name: Option<&str>,
    ) -> Key {
        let key = Key {
            place,
            group: group.into(),
            resource: resource.into(),
            subresource: rule.subresource,
            verb: rule.verb,
        };
        if REVIEWS.contains(&resource) {
            return key;
        }
        if key.place == Place::Everywhere {
            let held = if access_of(function.capability()) == Some(Access::Write) {
                ", and the admission policies hold its changes to the pattern"
            } else {
                ""
            };
            let said = format!(
                "{} is granted for namespaces by a pattern: a Role has to name them, so it is bound in all{held}",
                function.capability()
            );
            self.unsayable.insert(said);
        }
        match (self.all.get_mut(&key), name) {
            (None, name) => {
                let names = name.map(|name| BTreeSet::from([name.to_owned()]));
                self.all.insert(
                    key.clone(),
                    Need { names, functions: BTreeSet::from([function]), fitting: BTreeMap::new() },
                );
            }
            (Some(need), name) => {
                need.functions.insert(function);
                // One that may be any object makes all of them any.
                need.names = need.names.take().zip(name).map(|(mut names, name)| {
                    names.insert(name.into());
                    names
                });
            }
        }
        key
    }

    /// Beside a run's own requests: to see that these admission policies are there.
    pub fn and_policies(&mut self, names: &[String]) {
        let (rules, _) = table(Function::CheckPolicies);
        for (rule, name) in rules.iter().flat_map(|rule| names.iter().map(move |name| (rule, name)))
        {
            self.add(
                Function::CheckPolicies,
                rule,
                rule.resource,
                rule.group,
                Place::Cluster,
                Some(name),
            );
        }
    }

    /// The single requests, to be asked about.
    pub fn requests(&self) -> Vec<Request> {
        let mut requests = vec![];
        for (key, need) in &self.all {
            let namespace = match &key.place {
                Place::Namespace(name) => Some(name.clone()),
                Place::Cluster | Place::Everywhere => None,
            };
            let request = |name: Option<String>| Request {
                verb: key.verb.word().into(),
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

/// The grants for a capability that hold in every layer: each pair of them laid over each other. Never narrower than what `decide` allows.
pub fn intersections(grants: &Grants, capability: &str) -> Vec<Grant> {
    let of = |layer: &crate::grants::Layer| {
        layer
            .grants
            .iter()
            .filter(|grant| grant.capability == capability)
            .cloned()
            .collect::<Vec<_>>()
    };
    let Some((first, rest)) = grants.layers.split_first() else { return vec![] };
    rest.iter().fold(of(first), |held, layer| {
        held.iter()
            .flat_map(|one| of(layer).into_iter().filter_map(|other| over(one, &other)))
            .collect()
    })
}

fn over(one: &Grant, other: &Grant) -> Option<Grant> {
    let kinds = match (&one.kinds, &other.kinds) {
        (Some(one), Some(other)) => Some(meet(one, other)),
        (Some(kinds), None) | (None, Some(kinds)) => Some(kinds.clone()),
        (None, None) => None,
    };
    // Without namespaces a grant is for objects that have none.
    if one.namespaces.is_empty() != other.namespaces.is_empty() {
        return None;
    }
    let (namespaces, names) =
        (meet(&one.namespaces, &other.namespaces), meet(&one.names, &other.names));
    let movers = match (&one.movers, &other.movers) {
        (Some(one), Some(other)) => {
            Some(one.iter().filter(|mover| other.contains(mover)).cloned().collect::<Vec<_>>())
        }
        (one, other) => one.as_ref().or(other.as_ref()).cloned(),
    };
    let nothing = kinds.as_ref().is_some_and(Vec::is_empty)
        || names.is_empty()
        || (namespaces.is_empty() && !one.namespaces.is_empty())
        || movers.as_ref().is_some_and(Vec::is_empty);
    (!nothing).then(|| Grant {
        capability: one.capability.clone(),
        kinds,
        namespaces,
        names,
        label_selector: one
            .label_selector
            .iter()
            .chain(&other.label_selector)
            .cloned()
            .reduce(|one, other| one.and(&other)),
        movers,
        max: one.max.least(other.max),
        approval: one.approval.or(other.approval),
        evidence: one.evidence.iter().chain(&other.evidence).cloned().reduce(Evidence::and),
    })
}

/// What fits some glob of both. Of two patterns the one that is written is kept whose every name may fit the other: never too little.
fn meet(one: &[Glob], other: &[Glob]) -> Vec<Glob> {
    let mut met: Vec<Glob> = vec![];
    for a in one {
        for b in other {
            let both = match (a.is_plain(), b.is_plain()) {
                (true, _) => b.matches(a.as_str()).then_some(a),
                (_, true) => a.matches(b.as_str()).then_some(b),
                (false, false) if apart(a, b) => None,
                (false, false) => Some(if within(b, a) { b } else { a }),
            };
            if let Some(glob) = both
                && !met.contains(glob)
            {
                met.push(glob.clone());
            }
        }
    }
    met
}

/// Whether every name that fits `one` fits `other`, which has stars alone: those fit whatever stands in the pattern.
fn within(one: &Glob, other: &Glob) -> bool {
    !other.as_str().contains(['?', '[', '{', '\\']) && other.matches(one.as_str())
}

/// Whether no name can fit both patterns: they begin or end with other letters. Not all that are apart are seen.
fn apart(a: &Glob, b: &Glob) -> bool {
    let meta = ['*', '?', '[', '{', '\\', ']', '}'];
    let begin = |glob: &Glob| glob.as_str().split(meta).next().unwrap_or_default().to_owned();
    let end = |glob: &Glob| glob.as_str().rsplit(meta).next().unwrap_or_default().to_owned();
    let ((one, other), (last, least)) = ((begin(a), begin(b)), (end(a), end(b)));
    !(one.starts_with(&other) || other.starts_with(&one))
        || !(last.ends_with(&least) || least.ends_with(&last))
}

/// The functions that a component imports, by what it imports of each capability. A resource's method is one of its capability's.
pub fn functions<'a, 'b>(
    imported: impl IntoIterator<Item = (&'a str, &'b [String])>,
) -> BTreeSet<Function> {
    imported.into_iter().flat_map(|(capability, names)| of_capability(capability, names)).collect()
}

fn of_capability(capability: &str, imported: &[String]) -> BTreeSet<Function> {
    let known: Vec<Function> = Function::ALL
        .iter()
        .copied()
        .filter(|function| function.capability() == capability)
        .collect();
    let spelt = |function: &Function| function.name().split_once('.').map_or("", |(_, name)| name);
    let named: BTreeSet<Function> = known
        .iter()
        .copied()
        .filter(|function| {
            imported.iter().any(|name| {
                name == spelt(function) || name.split('.').next_back() == Some(spelt(function))
            })
        })
        .collect();
    match access_of(capability) {
        // One that is spelt otherwise in the contract belongs to the capability all the same.
        Some(Access::Read | Access::Write) if named.is_empty() => known.into_iter().collect(),
        Some(Access::Read | Access::Write | Access::Builtin) | None => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_cannot_meet_are_told_and_no_others() {
        let glob = |text: &str| Glob::new(text).unwrap();
        let met = |one: &[&str], other: &[&str]| {
            let globs = |list: &[&str]| list.iter().map(|text| glob(text)).collect::<Vec<_>>();
            meet(&globs(one), &globs(other))
                .iter()
                .map(|glob| glob.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(met(&["*-provisioner", "*-ctrlplugin"], &["*-provisioner"]), ["*-provisioner"]);
        assert_eq!(met(&["csi-*"], &["csi-rbd*", "nfs-*"]), ["csi-rbd*"]);
        assert_eq!(met(&["*"], &["a*", "b"]), ["a*", "b"]);
        assert_eq!(met(&["media", "home-automation"], &["home-*"]), ["home-automation"]);
        assert_eq!(met(&["{ai,media}"], &["m*"]), ["{ai,media}"], "who cannot tell keeps it");
        assert_eq!(met(&["a?"], &["[ab]b"]), ["a?"], "who cannot tell keeps it");
    }
}
