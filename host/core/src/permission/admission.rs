//! Admission policies that hold the ServiceAccount to the fields which its effects may change: a Role cannot, for its `patch` is of whole objects.
//!
//! `ValidatingAdmissionPolicy` is stable since Kubernetes 1.30. Each policy looks at one account's requests alone.
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>

use super::Account;
use super::needs::{Key, Need, Needs};
use crate::effect::Function;
use crate::effect::host::LEASE;
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
struct Fields(BTreeMap<&'static str, Fields>);

impl Fields {
    fn of<'a>(paths: impl IntoIterator<Item = &'a &'static [&'static str]>) -> Self {
        let mut root = Self::default();
        for path in paths {
            path.iter().fold(&mut root, |fields, part| fields.0.entry(part).or_default());
        }
        root
    }
}

/// The names of the policies, which are those of their bindings too.
pub fn names(account: &Account, needs: &Needs) -> Vec<String> {
    let policies = objects(account, needs).into_iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicy");
    policies.filter_map(|policy| policy["metadata"]["name"].as_str().map(str::to_owned)).collect()
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
        let name = format!("{}-{}-{}-{}", account.namespace, account.name, verb.word(), resources[0].1);
        let mut spec = json!({
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": matched(verb, &resources)},
            "matchConditions": [{"name": "of-this-account", "expression": format!("request.userInfo.username == {}", quoted(&account.user()))}],
        });
        let variables: Vec<Value> =
            rules.iter().flat_map(|rule| &rule.variables).map(|(name, expression)| json!({"name": name, "expression": expression})).collect();
        if !variables.is_empty() {
            spec["variables"] = variables.into();
        }
        spec["validations"] = rules.iter().map(|rule| json!({"expression": rule.expression, "message": rule.message})).collect();
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
        written.entry((key.verb, key.group.clone(), key.resource.clone())).or_default().push((key, need));
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
    let functions: BTreeSet<Function> = places.iter().flat_map(|(_, need)| need.functions.iter().copied()).collect();
    let mut rules = vec![];
    match verb {
        Verb::Patch => {
            rules.extend(unchanged(&Fields::of(functions.iter().flat_map(|function| table(*function).1))));
            rules.extend(named_so(resource, places, "request.name"));
        }
        Verb::Delete => {
            let by_uid = "has(request.options) && has(request.options.preconditions) && has(request.options.preconditions.uid)";
            rules.push(Rule::plain(by_uid, "an object is deleted by its uid, never by its name alone"));
            if (group, resource) == ("", "pods") {
                rules.extend(pods(places));
            } else {
                rules.extend(named_so(resource, places, "request.name"));
            }
        }
        Verb::Create => {
            rules.extend(["finalizers", "ownerReferences"].map(|field| {
                let none = format!("!has(object.metadata.{field}) || object.metadata.{field}.size() == 0");
                Rule::plain(none, format!("a new object has no {field}"))
            }));
            if functions.contains(&Function::AcquireLease) {
                rules.push(Rule::plain(format!("object.metadata.name == {}", quoted(LEASE)), format!("the only Lease to be made is {LEASE}")));
            } else {
                rules.extend(named_so(resource, places, "object.metadata.name"));
            }
        }
        Verb::Get | Verb::List | Verb::Watch => {}
    }
    rules
}

/// Everything stays as it is, but for these fields. Status is no part of it: it is written by another request.
fn unchanged(fields: &Fields) -> Vec<Rule> {
    let none = Fields::default();
    let below = |key: &str| fields.0.get(key).unwrap_or(&none);
    let metadata = below("metadata");
    let mut rules = vec![];
    let mut spec = vec![("spec", below("spec"))];
    let mut path = vec![];
    // Each level on the way to a field is a rule of its own: a person can read it, and so says its message.
    while let Some((key, fields)) = spec.pop() {
        path.push(key);
        rules.push(same(&path, fields));
        spec.extend(fields.0.iter().filter(|(_, below)| !below.0.is_empty()).map(|(key, below)| (*key, below)));
    }
    rules.push(same(&["metadata", "annotations"], metadata.0.get("annotations").unwrap_or(&none)));
    rules.push(same(&["metadata", "labels"], metadata.0.get("labels").unwrap_or(&none)));
    for list in ["finalizers", "ownerReferences"] {
        let at = |object: &str| format!("has({object}.metadata.{list}) ? dyn({object}.metadata.{list}) : dyn([])");
        let (now, before) = (list.to_owned(), format!("{list}Before"));
        rules.push(Rule {
            variables: vec![(now.clone(), at("object")), (before.clone(), at("oldObject"))],
            expression: format!("variables.{now} == variables.{before}"),
            message: format!("metadata.{list} stays as it is"),
        });
    }
    rules
}

/// Two maps are the same, but for these keys.
fn same(path: &[&str], fields: &Fields) -> Rule {
    let names: Vec<&str> = fields.0.keys().copied().collect();
    let message =
        if names.is_empty() { format!("{} stays as it is", path.join(".")) } else { format!("of {} only {} may change", path.join("."), names.join(", ")) };
    let (now, before) = (variable(path), format!("{}Before", variable(path)));
    let may: Vec<String> = names.iter().map(|key| quoted(key)).collect();
    let may = if may.is_empty() { String::new() } else { format!("k in [{}] || ", may.join(", ")) };
    let expression = format!(
        "variables.{now}.all(k, {may}(k in variables.{before} && variables.{now}[k] == variables.{before}[k])) &&\n\
         variables.{before}.all(k, {may}k in variables.{now})"
    );
    Rule { variables: vec![(now, map("object", path)), (before, map("oldObject", path))], expression, message }
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
    let there: Vec<String> = (1..=path.len()).map(|n| format!("has({object}.{})", path[..n].join("."))).collect();
    format!("{} ? dyn({object}.{}) : dyn({{}})", there.join(" && "), path.join("."))
}

/// Names that a pattern grants: RBAC knows no patterns. Whole names stand in the Role as resourceNames.
fn named_so(resource: &str, places: &[(&Key, &Need)], name: &str) -> Option<Rule> {
    let fitting: BTreeSet<&(String, String)> = places.iter().flat_map(|(_, need)| &need.fitting).collect();
    let said = |glob: &str| Glob::new(glob).is_ok_and(|glob| glob.is_every());
    if fitting.is_empty() || fitting.iter().all(|(_, glob)| said(glob)) {
        return None;
    }
    let each: BTreeSet<String> = fitting
        .iter()
        .map(|(namespace, glob)| {
            let parts = [("request.namespace", namespace), (name, glob)].into_iter().filter(|(_, glob)| !said(glob)).map(|(what, glob)| fits(what, glob));
            let parts: Vec<String> = parts.collect();
            if parts.is_empty() { "true".into() } else { format!("({})", parts.join(" && ")) }
        })
        .collect();
    let globs: BTreeSet<&str> = fitting.iter().map(|(_, glob)| glob.as_str()).collect();
    let message = format!("of {resource} only those called {}", globs.into_iter().collect::<Vec<_>>().join(", "));
    Some(Rule::plain(each.into_iter().collect::<Vec<_>>().join(" ||\n"), message))
}

/// A pod is replaced because its Deployment was granted: its ReplicaSet bears that name.
fn pods(places: &[(&Key, &Need)]) -> Option<Rule> {
    let fitting: BTreeSet<&(String, String)> = places.iter().flat_map(|(_, need)| &need.fitting).collect();
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
                fits("request.namespace", namespace),
                quoted(&replicaset)
            )
        })
        .collect();
    let globs: BTreeSet<&str> = fitting.iter().map(|(_, glob)| glob.as_str()).collect();
    let message = format!("of pods only those of Deployments called {}", globs.into_iter().collect::<Vec<_>>().join(", "));
    Some(Rule::plain(each.join(" ||\n"), message))
}

fn fits(what: &str, glob: &str) -> String {
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
