//! Admission policies that hold the ServiceAccount to the fields which its effects may change: a Role cannot, for its `patch` is of whole objects.
//!
//! `ValidatingAdmissionPolicy` is stable since Kubernetes 1.30. Each policy looks at one account's requests alone.
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>

use super::Account;
use super::needs::{Key, Need, Needs};
use crate::effect::Function;
use crate::effect::host::{LEASE, Policy};
use crate::footprint::{Verb, table};
use crate::glob::Glob;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const ADMISSION: &str = "admissionregistration.k8s.io/v1";

/// What a write must hold to, in CEL, with the sentence for whoever is refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    /// Names for what it compares, each with its expression.
    variables: Vec<(String, String)>,
    expression: String,
    message: String,
}

impl Rule {
    fn plain(expression: impl Into<String>, message: impl Into<String>) -> Self {
        Self { variables: vec![], expression: expression.into(), message: message.into() }
    }
}

/// Paths that may change, as a tree: a leaf is a field that may have any value.
#[derive(Debug, Default)]
struct Fields {
    below: BTreeMap<&'static str, Fields>,
    /// The functions that change this very field.
    functions: BTreeSet<Function>,
}

impl Fields {
    fn of(functions: &BTreeSet<Function>) -> Self {
        let mut root = Self::default();
        for function in functions {
            for path in table(*function).1 {
                let leaf = path
                    .iter()
                    .fold(&mut root, |fields, part| fields.below.entry(part).or_default());
                leaf.functions.insert(*function);
            }
        }
        root
    }
}

/// The names of the policies, which are those of their bindings too.
pub fn names(account: &Account, needs: &Needs) -> Vec<String> {
    wanted(account, needs).into_iter().map(|policy| policy.name).collect()
}

/// The same as they should stand in the cluster.
pub fn wanted(account: &Account, needs: &Needs) -> Vec<Policy> {
    let objects = objects(account, needs);
    let of = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    let both = of("ValidatingAdmissionPolicy").zip(of("ValidatingAdmissionPolicyBinding"));
    let named = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    both.map(|(policy, binding)| Policy {
        name: named(policy),
        spec: policy["spec"].clone(),
        binding: binding["spec"].clone(),
    })
    .collect()
}

/// The policies and their bindings: one for each set of resources that is written under the same rules.
pub fn objects(account: &Account, needs: &Needs) -> Vec<Value> {
    let mut policies: BTreeMap<(Verb, Vec<Rule>), Resources> = BTreeMap::new();
    for ((verb, group, resource), places) in written(needs) {
        let rules = rules(verb, &group, &resource, &places);
        if !rules.is_empty() {
            policies.entry((verb, rules)).or_default().push((group, resource));
        }
    }
    let mut objects = vec![];
    for ((verb, rules), resources) in policies {
        let name =
            format!("{}-{}-{}-{}", account.namespace, account.name, verb.word(), resources[0].1);
        let mut spec = json!({
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": matched(verb, &resources)},
            "matchConditions": [{"name": "of-this-account", "expression": format!("request.userInfo.username == {}", quoted(&account.user()))}],
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
        objects.push(json!({"apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec}));
        objects.push(json!({
            "apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        }));
    }
    objects
}

/// Groups and plurals.
type Resources = Vec<(String, String)>;
type Written<'a> = BTreeMap<(Verb, String, String), Vec<(&'a Key, &'a Need)>>;

fn written(needs: &Needs) -> Written<'_> {
    let mut written = Written::new();
    for (key, need) in needs.all.iter().filter(|(key, _)| key.verb.mutates()) {
        written
            .entry((key.verb, key.group.clone(), key.resource.clone()))
            .or_default()
            .push((key, need));
    }
    written
}

fn matched(verb: Verb, resources: &[(String, String)]) -> Vec<Value> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (group, resource) in resources {
        groups.entry(group).or_default().push(resource);
    }
    let operation = match verb {
        Verb::Create => "CREATE",
        Verb::Patch => "UPDATE",
        Verb::Delete => "DELETE",
        Verb::Get | Verb::List | Verb::Watch => unreachable!("only writes are admitted"),
    };
    groups
        .into_iter()
        .map(|(group, resources)| json!({"apiGroups": [group], "apiVersions": ["*"], "operations": [operation], "resources": resources}))
        .collect()
}

fn rules(verb: Verb, group: &str, resource: &str, places: &[(&Key, &Need)]) -> Vec<Rule> {
    let functions: BTreeSet<Function> =
        places.iter().flat_map(|(_, need)| need.functions.iter().copied()).collect();
    let mut rules = vec![];
    match verb {
        Verb::Patch => {
            rules.extend(unchanged(&Fields::of(&functions), places));
            rules.extend(named_so(resource, places, "request.name"));
        }
        Verb::Delete => {
            let by_uid = "has(request.options) && has(request.options.preconditions) && has(request.options.preconditions.uid)";
            rules.push(Rule::plain(
                by_uid,
                "an object is deleted by its uid, never by its name alone",
            ));
            if (group, resource) == ("", "pods") {
                rules.extend(pods(places));
            } else {
                rules.extend(named_so(resource, places, "request.name"));
            }
        }
        Verb::Create => {
            rules.extend(["finalizers", "ownerReferences"].map(|field| {
                let none =
                    format!("!has(object.metadata.{field}) || object.metadata.{field}.size() == 0");
                Rule::plain(none, format!("a new object has no {field}"))
            }));
            if functions.contains(&Function::AcquireLease) {
                rules.push(Rule::plain(
                    format!("object.metadata.name == {}", quoted(LEASE)),
                    format!("the only Lease to be made is {LEASE}"),
                ));
            } else {
                rules.extend(named_so(resource, places, "object.metadata.name"));
            }
        }
        Verb::Get | Verb::List | Verb::Watch => {}
    }
    rules
}

/// Everything stays as it is, but for these fields. Status is no part of it: it is written by another request.
fn unchanged(fields: &Fields, places: &[(&Key, &Need)]) -> Vec<Rule> {
    let none = Fields::default();
    let below = |key: &str| fields.below.get(key).unwrap_or(&none);
    let metadata = below("metadata");
    let mut rules = vec![];
    let mut spec = vec![("spec", below("spec"))];
    let mut path = vec![];
    // Each level on the way to a field is a rule of its own: a person can read it, and so says its message.
    while let Some((key, fields)) = spec.pop() {
        path.push(key);
        rules.push(same(&path, fields, places));
        spec.extend(
            fields
                .below
                .iter()
                .filter(|(_, below)| !below.below.is_empty())
                .map(|(key, below)| (*key, below)),
        );
    }
    // mutant admission-allows-annotations: annotations", " ~>
    for map in ["annotations", "labels"] {
        rules.push(same(&["metadata", map], metadata.below.get(map).unwrap_or(&none), places));
    }
    for list in ["finalizers", "ownerReferences"] {
        let at = |object: &str| {
            format!("has({object}.metadata.{list}) ? dyn({object}.metadata.{list}) : dyn([])")
        };
        let (now, before) = (list.to_owned(), format!("{list}Before"));
        rules.push(Rule {
            variables: vec![(now.clone(), at("object")), (before.clone(), at("oldObject"))],
            expression: format!("variables.{now} == variables.{before}"),
            message: format!("metadata.{list} stays as it is"),
        });
    }
    rules
}

/// Two maps are the same, but for these keys, each where a function is granted that changes it.
fn same(path: &[&str], fields: &Fields, places: &[(&Key, &Need)]) -> Rule {
    let names: Vec<&str> = fields.below.keys().copied().collect();
    let message = if names.is_empty() {
        format!("{} stays as it is", path.join("."))
    } else {
        format!("of {} only {} may change", path.join("."), names.join(", "))
    };
    let (now, before) = (variable(path), format!("{}Before", variable(path)));
    let mut may: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for (key, field) in &fields.below {
        may.entry(where_granted(&field.functions, places)).or_default().push(quoted(key));
    }
    let may: String = may
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
        "variables.{now}.all(k, {may}(k in variables.{before} && variables.{now}[k] == variables.{before}[k])) &&\n\
         variables.{before}.all(k, {may}k in variables.{now})"
    );
    Rule {
        variables: vec![(now, map("object", path)), (before, map("oldObject", path))],
        expression,
        message,
    }
}

/// Where one of these functions is granted; none where that is wherever anything here is, and for a field on the way to others.
fn where_granted(functions: &BTreeSet<Function>, places: &[(&Key, &Need)]) -> Option<String> {
    let all = patterns(places);
    let granted = |function: &Function| {
        places
            .iter()
            .flat_map(|(_, need)| need.fitting.get(function))
            .flatten()
            .collect::<BTreeSet<_>>()
    };
    let local: BTreeSet<&(String, String)> = functions.iter().flat_map(granted).collect();
    // mutant field-allowed-by-any-grant: local == all ~> local.len() <= all.len()
    if functions.is_empty() || local == all { None } else { Some(any_of(&local, "request.name")) }
}

/// `spec.template.metadata` as `specTemplateMetadata`.
fn variable(path: &[&str]) -> String {
    let mut name = String::new();
    for part in path {
        let mut letters = part.chars();
        match letters.next() {
            Some(first) if !name.is_empty() => name.push(first.to_ascii_uppercase()),
            first => name.extend(first),
        }
        name.push_str(letters.as_str());
    }
    name
}

/// The map at a path, an empty one where there is none.
fn map(object: &str, path: &[&str]) -> String {
    let there: Vec<String> =
        (1..=path.len()).map(|n| format!("has({object}.{})", path[..n].join("."))).collect();
    format!("{} ? dyn({object}.{}) : dyn({{}})", there.join(" && "), path.join("."))
}

/// All patterns of namespace and name.
fn patterns<'a>(places: &[(&Key, &'a Need)]) -> BTreeSet<&'a (String, String)> {
    places.iter().flat_map(|(_, need)| need.patterns()).collect()
}

fn is_every(glob: &str) -> bool {
    Glob::new(glob).is_ok_and(|glob| glob.is_every())
}

/// Places and names that a pattern grants: RBAC knows no patterns. Whole names stand in the Role as resourceNames, whole namespaces as its own.
fn named_so(resource: &str, places: &[(&Key, &Need)], name: &str) -> Option<Rule> {
    let fitting = patterns(places);
    let is_plain = |glob: &str| Glob::new(glob).is_ok_and(|glob| glob.is_plain());
    // mutant namespace-pattern-unenforced: is_plain(namespace) ~> !namespace.is_empty()
    let in_the_role = fitting.iter().all(|(namespace, glob)| is_plain(namespace) && is_every(glob));
    if in_the_role || fitting.iter().any(|(namespace, glob)| is_every(namespace) && is_every(glob))
    {
        return None;
    }
    let listed = |globs: BTreeSet<&str>| globs.into_iter().collect::<Vec<_>>().join(", ");
    let names = listed(fitting.iter().map(|(_, glob)| glob.as_str()).collect());
    let namespaces = listed(fitting.iter().map(|(namespace, _)| namespace.as_str()).collect());
    Some(Rule::plain(
        any_of(&fitting, name),
        format!("of {resource} only those called {names}, in {namespaces}"),
    ))
}

/// That a request's namespace and name fit one of the pairs.
fn any_of(fitting: &BTreeSet<&(String, String)>, name: &str) -> String {
    let each: BTreeSet<String> = fitting
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

/// A pod is replaced because its Deployment was granted: its ReplicaSet bears that name.
fn pods(places: &[(&Key, &Need)]) -> Option<Rule> {
    let fitting = patterns(places);
    if fitting.is_empty() {
        return None;
    }
    let each: Vec<String> = fitting
        .iter()
        .map(|(namespace, glob)| {
            let of = Glob::new(glob).map(|glob| glob.regex()).unwrap_or_default();
            let replicaset = format!("{}-[a-z0-9]+$", of.trim_end_matches('$'));
            format!(
                "({} && has(oldObject.metadata.ownerReferences) &&\n oldObject.metadata.ownerReferences.exists(o, o.kind == 'ReplicaSet' && o.name.matches({})))",
                matches("request.namespace", namespace),
                quoted(&replicaset)
            )
        })
        .collect();
    let globs: BTreeSet<&str> = fitting.iter().map(|(_, glob)| glob.as_str()).collect();
    let message = format!(
        "of pods only those of Deployments called {}",
        globs.into_iter().collect::<Vec<_>>().join(", ")
    );
    Some(Rule::plain(each.join(" ||\n"), message))
}

fn matches(what: &str, glob: &str) -> String {
    match Glob::new(glob) {
        Ok(glob) if glob.is_plain() => format!("{what} == {}", quoted(glob.as_str())),
        Ok(glob) => format!("{what}.matches({})", quoted(&glob.regex())),
        // It was read as a glob before.
        Err(_) => "false".into(),
    }
}

/// A CEL string.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::{Grant, Grants, Layer};

    /// The rules of the policy on this resource, for these functions under these grants.
    fn said(functions: &[Function], grants: Vec<Grant>, resource: &str) -> String {
        let grants = Grants { layers: vec![Layer { source: "remediation.yaml".into(), grants }] };
        let needs = Needs::of(&functions.iter().copied().collect(), &grants, false);
        let account = Account { namespace: "salve".into(), name: "x".into() };
        let policy = objects(&account, &needs)
            .into_iter()
            .find(|object| object["spec"]["matchConstraints"].to_string().contains(resource));
        policy.unwrap()["spec"]["validations"].to_string()
    }

    fn within(capability: &str, namespace: &str) -> Grant {
        Grant { namespaces: vec![Glob::new(namespace).unwrap()], ..Grant::whole(capability) }
    }

    #[test]
    fn each_field_goes_with_its_places() {
        let functions = [Function::Suspend, Function::Reconcile];
        let apart = said(
            &functions,
            vec![within("suspend-flux", "media"), within("reconcile-flux", "flux-system")],
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
        let together = said(
            &functions,
            vec![within("suspend-flux", "media"), within("reconcile-flux", "media")],
            "kustomizations",
        );
        assert!(
            together.contains("k in ['suspend'] ||") && !together.contains("request.namespace"),
            "the Role says where: {together}"
        );
    }

    #[test]
    fn a_pattern_of_namespaces_is_held() {
        let held = |namespace: &str| {
            said(&[Function::Restart], vec![within("restart-deployment", namespace)], "deployments")
        };
        assert!(held("rook-*").contains("request.namespace.matches('^rook"), "{}", held("rook-*"));
        for of_the_role in ["rook-ceph", "*"] {
            assert!(
                !held(of_the_role).contains("request.namespace"),
                "{of_the_role}: {}",
                held(of_the_role)
            );
        }
    }
}
