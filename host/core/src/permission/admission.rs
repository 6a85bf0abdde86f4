//! Admission policies that limit the fields that a ServiceAccount may change. A Role cannot,
//! because its `patch` is for whole objects.
//!
//! `ValidatingAdmissionPolicy` is stable since Kubernetes 1.30. Each policy matches the requests of
//! one account only.
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>

use super::Account;
use super::needs::{Key, Need, Needs, Pattern};
use crate::capability::host::Policy;
use crate::capability::types::Kind;
use crate::footprint::Verb;
use crate::glob::Glob;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const ADMISSION: &str = "admissionregistration.k8s.io/v1";

/// A condition on a write, in CEL, and the message of a rejection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    /// Each with its expression.
    variables: Vec<(String, String)>,
    expression: String,
    message: String,
}

impl Rule {
    fn plain(expression: impl Into<String>, message: impl Into<String>) -> Self {
        Self { variables: vec![], expression: expression.into(), message: message.into() }
    }
}

/// Fields that may change, as a tree. A leaf may have any value.
#[derive(Debug, Default)]
struct Fields {
    below: BTreeMap<String, Fields>,
    /// The patterns for which this field itself is granted.
    granted: BTreeSet<Pattern>,
}

impl Fields {
    fn new(places: &[(&Key, &Need)]) -> Self {
        let mut root = Self::default();
        for (path, patterns) in places.iter().flat_map(|(_, need)| &need.fields) {
            let leaf = path
                .iter()
                .fold(&mut root, |fields, key| fields.below.entry(key.clone()).or_default());
            leaf.granted.extend(patterns.iter().cloned());
        }
        root
    }
}

/// Returns the names of the policies. Their bindings have the same names.
pub fn names(account: &Account, needs: &Needs) -> Vec<String> {
    policies(account, needs).into_iter().map(|policy| policy.name).collect()
}

/// Returns the policies as they should be in the cluster.
pub fn policies(account: &Account, needs: &Needs) -> Vec<Policy> {
    let objects = objects(account, needs);
    let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    let pairs =
        of_kind("ValidatingAdmissionPolicy").zip(of_kind("ValidatingAdmissionPolicyBinding"));
    pairs
        .map(|(policy, binding)| Policy {
            name: policy["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            spec: policy["spec"].clone(),
            binding: binding["spec"].clone(),
        })
        .collect()
}

/// Returns the policies and their bindings: one for each set of resources with the same rules.
pub fn objects(account: &Account, needs: &Needs) -> Vec<Value> {
    let mut policies: BTreeMap<(Verb, Vec<Rule>), Resources> = BTreeMap::new();
    for ((verb, group, resource), places) in writes(needs) {
        let rules = rules(verb, &group, &resource, &places);
        if !rules.is_empty() {
            policies.entry((verb, rules)).or_default().push((group, resource));
        }
    }
    let mut objects = vec![];
    for ((verb, rules), resources) in policies {
        let (group, resource) = resources[0].clone();
        let name = format!(
            "{}-{}-{}-{}",
            account.namespace,
            account.name,
            verb.as_str(),
            Kind { group, resource }.resource_group()
        );
        let mut spec = json!({
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": resource_rules(verb, &resources)},
            "matchConditions": [{
                "name": "requested-by-account",
                "expression": format!("request.userInfo.username == {}", quoted(&account.user())),
            }],
        });
        let variables: Vec<Value> = rules
            .iter()
            .flat_map(|rule| &rule.variables)
            .map(|(name, expression)| json!({"name": name, "expression": expression}))
            .collect();
        if !variables.is_empty() {
            spec["variables"] = variables.into();
        }
        spec["validations"] = rules
            .iter()
            .map(|rule| json!({"expression": rule.expression, "message": rule.message}))
            .collect();
        objects.push(json!({
            "apiVersion": ADMISSION,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": spec,
        }));
        objects.push(json!({
            "apiVersion": ADMISSION,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        }));
    }
    objects
}

/// Groups and plurals.
type Resources = Vec<(String, String)>;
/// By verb, group, and plural.
type Writes<'a> = BTreeMap<(Verb, String, String), Vec<(&'a Key, &'a Need)>>;

fn writes(needs: &Needs) -> Writes<'_> {
    let mut writes = Writes::new();
    for (key, need) in needs.all.iter().filter(|(key, _)| key.verb.mutates()) {
        writes
            .entry((key.verb, key.group.clone(), key.resource.clone()))
            .or_default()
            .push((key, need));
    }
    writes
}

fn resource_rules(verb: Verb, resources: &[(String, String)]) -> Vec<Value> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (group, resource) in resources {
        groups.entry(group).or_default().push(resource);
    }
    let operation = match verb {
        Verb::Create => "CREATE",
        Verb::Patch => "UPDATE",
        Verb::Delete => "DELETE",
        Verb::Get | Verb::List | Verb::Watch => unreachable!("only writes have policies"),
    };
    groups
        .into_iter()
        .map(|(group, resources)| {
            json!({
                "apiGroups": [group],
                "apiVersions": ["*"],
                "operations": [operation],
                "resources": resources,
            })
        })
        .collect()
}

fn rules(verb: Verb, group: &str, resource: &str, places: &[(&Key, &Need)]) -> Vec<Rule> {
    let mut rules = vec![];
    match verb {
        Verb::Patch => {
            rules.extend(only_fields(&Fields::new(places), places));
            rules.extend(allowed_names(resource, places, "request.name"));
        }
        Verb::Delete => {
            rules.push(Rule::plain(
                "has(request.options) && has(request.options.preconditions) && \
                 has(request.options.preconditions.uid)",
                "a deletion must have the object's UID as a precondition",
            ));
            if (group, resource) == ("", "pods") {
                rules.extend(pods(places));
            } else {
                rules.extend(allowed_names(resource, places, "request.name"));
            }
        }
        Verb::Create => {
            rules.extend(["finalizers", "ownerReferences"].map(|field| {
                let none =
                    format!("!has(object.metadata.{field}) || object.metadata.{field}.size() == 0");
                Rule::plain(none, format!("a new object must not have {field}"))
            }));
            rules.extend(allowed_names(resource, places, "object.metadata.name"));
        }
        Verb::Get | Verb::List | Verb::Watch => {}
    }
    rules
}

/// Returns the conditions that only these fields change. The status is not covered: it is written
/// by another request.
fn only_fields(fields: &Fields, places: &[(&Key, &Need)]) -> Vec<Rule> {
    let none = Fields::default();
    let below = |key: &str| fields.below.get(key).unwrap_or(&none);
    let metadata = below("metadata");
    let mut rules = vec![];
    // One rule for each map, so that expressions and messages stay readable.
    let mut maps = vec![(vec!["spec"], below("spec"))];
    while let Some((path, fields)) = maps.pop() {
        rules.push(only_keys(&path, fields, places));
        let children = fields.below.iter().filter(|(_, below)| !below.below.is_empty());
        // mutant admission-skips-sibling-field: children.map ~> children.take(1).map
        maps.extend(children.map(|(key, below)| ([path.as_slice(), &[key]].concat(), below)));
    }
    // mutant admission-allows-annotations: annotations", " ~>
    for map in ["annotations", "labels"] {
        rules.push(only_keys(&["metadata", map], metadata.below.get(map).unwrap_or(&none), places));
    }
    for list in ["finalizers", "ownerReferences"] {
        let at = |object: &str| {
            format!("has({object}.metadata.{list}) ? dyn({object}.metadata.{list}) : dyn([])")
        };
        let (now, before) = (list.to_owned(), format!("{list}Before"));
        rules.push(Rule {
            variables: vec![(now.clone(), at("object")), (before.clone(), at("oldObject"))],
            expression: format!("variables.{now} == variables.{before}"),
            message: format!("metadata.{list} must not change"),
        });
    }
    rules
}

/// Returns the condition that a map changes only in these keys, each where a function is granted
/// that may set it.
fn only_keys(path: &[&str], fields: &Fields, places: &[(&Key, &Need)]) -> Rule {
    let names: Vec<&str> = fields.below.keys().map(String::as_str).collect();
    let message = if names.is_empty() {
        format!("{} must not change", path.join("."))
    } else {
        format!("only {} may change in {}", names.join(", "), path.join("."))
    };
    // Keys have no underscore, so different paths have different names.
    let (now, before) = (path.join("_"), format!("before_{}", path.join("_")));
    let mut allowed: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for (key, field) in &fields.below {
        allowed.entry(where_granted(&field.granted, places)).or_default().push(quoted(key));
    }
    let allowed: String = allowed
        .into_iter()
        .map(|(place, keys)| {
            let among = format!("k in [{}]", keys.join(", "));
            place.map_or_else(
                || format!("{among} || "),
                |place| format!("({among} && ({place})) || "),
            )
        })
        .collect();
    let expression = format!(
        "variables.{now}.all(k, {allowed}(k in variables.{before} && \
         variables.{now}[k] == variables.{before}[k])) &&\n\
         variables.{before}.all(k, {allowed}k in variables.{now})"
    );
    Rule {
        variables: vec![(now, map("object", path)), (before, map("oldObject", path))],
        expression,
        message,
    }
}

/// Returns the condition under which a field is granted. None if it is granted wherever any field
/// is, or if only fields below it are granted.
fn where_granted(granted: &BTreeSet<Pattern>, places: &[(&Key, &Need)]) -> Option<String> {
    let all = patterns(places);
    let granted: BTreeSet<&Pattern> = granted.iter().collect();
    // mutant field-allowed-by-any-grant: granted == all ~> granted.len() <= all.len()
    if granted.is_empty() || granted == all { None } else { Some(any_of(&granted, "request.name")) }
}

/// Returns an expression for the map at a path; empty if it does not exist.
fn map(object: &str, path: &[&str]) -> String {
    let exists: Vec<String> =
        (1..=path.len()).map(|n| format!("has({object}.{})", path[..n].join("."))).collect();
    format!("{} ? dyn({object}.{}) : dyn({{}})", exists.join(" && "), path.join("."))
}

/// Returns all patterns of namespace and name.
fn patterns<'a>(places: &[(&Key, &'a Need)]) -> BTreeSet<&'a Pattern> {
    places.iter().flat_map(|(_, need)| &need.patterns).collect()
}

fn is_every(glob: &str) -> bool {
    Glob::new(glob).is_ok_and(|glob| glob.is_every())
}

/// Returns the condition for namespaces and names that are granted by a pattern. The Role covers
/// plain names (`resourceNames`) and plain namespaces.
fn allowed_names(resource: &str, places: &[(&Key, &Need)], name: &str) -> Option<Rule> {
    let patterns = patterns(places);
    let is_plain = |glob: &str| Glob::new(glob).is_ok_and(|glob| glob.is_plain());
    // mutant namespace-pattern-unenforced: is_plain(namespace) ~> !namespace.is_empty()
    let in_role = patterns.iter().all(|(namespace, glob)| is_plain(namespace) && is_every(glob));
    if in_role || patterns.iter().any(|(namespace, glob)| is_every(namespace) && is_every(glob)) {
        return None;
    }
    let listed = |globs: BTreeSet<&str>| globs.into_iter().collect::<Vec<_>>().join(", ");
    let names = listed(patterns.iter().map(|(_, glob)| glob.as_str()).collect());
    let namespaces = listed(patterns.iter().map(|(namespace, _)| namespace.as_str()).collect());
    Some(Rule::plain(
        any_of(&patterns, name),
        format!("only {resource} named {names} in {namespaces} are allowed"),
    ))
}

/// Returns the condition that a request's namespace and name match one of the patterns.
fn any_of(patterns: &BTreeSet<&(String, String)>, name: &str) -> String {
    let each: BTreeSet<String> = patterns
        .iter()
        .map(|(namespace, glob)| {
            let parts = [("request.namespace", namespace), (name, glob)]
                .into_iter()
                .filter(|(_, glob)| !is_every(glob))
                .map(|(what, glob)| matches(what, glob));
            let parts: Vec<String> = parts.collect();
            if parts.is_empty() { "true".into() } else { format!("({})", parts.join(" && ")) }
        })
        .collect();
    each.into_iter().collect::<Vec<_>>().join(" ||\n")
}

/// Returns the condition for pods. A pod is replaced because its Deployment was granted, and its
/// ReplicaSet has the name of the Deployment.
fn pods(places: &[(&Key, &Need)]) -> Option<Rule> {
    let patterns = patterns(places);
    if patterns.is_empty() {
        return None;
    }
    let each: Vec<String> = patterns
        .iter()
        .map(|(namespace, glob)| {
            let regex = Glob::new(glob).map(|glob| glob.regex()).unwrap_or_default();
            let replicaset = format!("{}-[a-z0-9]+$", regex.trim_end_matches('$'));
            format!(
                "({} && has(oldObject.metadata.ownerReferences) &&\n \
                 oldObject.metadata.ownerReferences.exists(o, o.kind == 'ReplicaSet' && \
                 o.name.matches({})))",
                matches("request.namespace", namespace),
                quoted(&replicaset)
            )
        })
        .collect();
    let globs: BTreeSet<&str> = patterns.iter().map(|(_, glob)| glob.as_str()).collect();
    let message = format!(
        "only pods of Deployments named {} are allowed",
        globs.into_iter().collect::<Vec<_>>().join(", ")
    );
    Some(Rule::plain(each.join(" ||\n"), message))
}

fn matches(what: &str, glob: &str) -> String {
    match Glob::new(glob) {
        Ok(glob) if glob.is_plain() => format!("{what} == {}", quoted(glob.as_str())),
        Ok(glob) => format!("{what}.matches({})", quoted(&glob.regex())),
        // It was parsed as a glob before.
        Err(_) => "false".into(),
    }
}

/// Returns a CEL string literal.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Capability;
    use crate::capability::Function;
    use crate::grants::{Grant, Grants, Layer};

    /// Returns the rules of the policy on a resource, for these functions under these grants.
    fn validations(functions: &[Function], grants: Vec<Grant>, resource: &str) -> String {
        let grants = Grants { layers: vec![Layer { source: "remediation.yaml".into(), grants }] };
        let needs = Needs::new(&functions.iter().copied().collect(), &grants, false);
        let account = Account { namespace: "salve".into(), name: "x".into() };
        let policy = objects(&account, &needs)
            .into_iter()
            .find(|object| object["spec"]["matchConstraints"].to_string().contains(resource));
        policy.unwrap()["spec"]["validations"].to_string()
    }

    fn within(capability: Capability, namespace: &str) -> Grant {
        Grant { namespaces: vec![Glob::new(namespace).unwrap()], ..Grant::whole(capability) }
    }

    #[test]
    fn a_field_may_change_only_where_it_is_granted() {
        let functions = [Function::Suspend, Function::Reconcile];
        let apart = validations(
            &functions,
            vec![
                within(Capability::SuspendFlux, "media"),
                within(Capability::ReconcileFlux, "flux-system"),
            ],
            "kustomizations",
        );
        assert!(
            apart.contains("(k in ['suspend'] && ((request.namespace == 'media')))"),
            "{apart}"
        );
        assert!(
            apart.contains(
                "'reconcile.fluxcd.io/requestedAt'] && ((request.namespace == 'flux-system')))"
            ),
            "{apart}"
        );
        let together = validations(
            &functions,
            vec![
                within(Capability::SuspendFlux, "media"),
                within(Capability::ReconcileFlux, "media"),
            ],
            "kustomizations",
        );
        assert!(
            together.contains("k in ['suspend'] ||") && !together.contains("request.namespace"),
            "the Role limits the namespace: {together}"
        );
    }

    fn overrides(kind: &str, fields: &[&str]) -> Grant {
        Grant {
            kinds: Some(vec![Glob::new(kind).unwrap()]),
            fields: Some(fields.iter().map(|field| (*field).to_owned()).collect()),
            ..within(Capability::OverrideFields, "media")
        }
    }

    #[test]
    fn every_map_with_a_granted_field_has_a_rule_for_its_other_keys() {
        for (granted, maps) in [
            (&["spec.replicas"][..], &["replicas may change in spec\""][..]),
            (
                &["spec.updateStrategy.rollingUpdate.partition", "spec.template.spec.grace"],
                &[
                    "template, updateStrategy may change in spec\"",
                    "spec may change in spec.template\"",
                    "grace may change in spec.template.spec\"",
                    "rollingUpdate may change in spec.updateStrategy\"",
                    "partition may change in spec.updateStrategy.rollingUpdate\"",
                ],
            ),
            (
                &["spec.behavior.scaleUp.x", "spec.behavior.scaleDown.x", "spec.a.x"],
                &[
                    "a, behavior may change in spec\"",
                    "x may change in spec.a\"",
                    "scaleDown, scaleUp may change in spec.behavior\"",
                    "x may change in spec.behavior.scaleDown\"",
                    "x may change in spec.behavior.scaleUp\"",
                ],
            ),
        ] {
            let grant = overrides("statefulsets.apps", granted);
            let rules = validations(&[Function::Override], vec![grant], "statefulsets");
            let in_spec = rules.matches("may change in spec").count();
            assert_eq!(in_spec, maps.len(), "{rules}");
            for map in maps {
                assert!(rules.contains(map), "{map}: {rules}");
            }
        }
    }

    #[test]
    fn kinds_with_the_same_plural_have_different_policies() {
        let grants = Grants {
            layers: vec![Layer {
                source: "remediation.yaml".into(),
                grants: vec![
                    overrides("clusters.postgresql.cnpg.io", &["spec.instances"]),
                    overrides("clusters.cluster.x-k8s.io", &["spec.replicas"]),
                ],
            }],
        };
        let needs = Needs::new(&[Function::Override].into(), &grants, false);
        let account = Account { namespace: "salve".into(), name: "x".into() };
        let names = names(&account, &needs);
        let patches: BTreeSet<&String> =
            names.iter().filter(|name| name.contains("-patch-clusters.")).collect();
        assert_eq!(patches.len(), 2, "{names:?}");
    }

    #[test]
    fn a_namespace_pattern_is_enforced() {
        let validations = |namespace: &str| {
            let grants = vec![within(Capability::RestartDeployment, namespace)];
            validations(&[Function::Restart], grants, "deployments")
        };
        let pattern = validations("rook-*");
        assert!(pattern.contains("request.namespace.matches('^rook"), "{pattern}");
        for namespace in ["rook-ceph", "*"] {
            let enforced_by_role = validations(namespace);
            assert!(
                !enforced_by_role.contains("request.namespace"),
                "{namespace}: {enforced_by_role}"
            );
        }
    }
}
