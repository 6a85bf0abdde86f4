//! Label and field selectors. The parser is independent of the one in `salve-core`, so that tests
//! compare two implementations.

use serde_json::Value;

use super::{ApiError, Request};
use crate::kind::Kind;
use crate::object::{label, text};

/// The label and field selector of a list or a watch.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Debug, Clone)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Parses the selectors of a request.
    pub fn from_request(request: &Request, kind: &Kind) -> Result<Self, ApiError> {
        let parameter = |name| request.parameter(name).unwrap_or("");
        Ok(Selector {
            labels: labels(parameter("labelSelector"))?,
            fields: fields(parameter("fieldSelector"), kind)?,
        })
    }

    /// Returns whether every object matches.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub fn matches(&self, object: &Value) -> bool {
        let labels = self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                label(object, key).is_some_and(|value| values.iter().any(|v| v == value))
            }
            Requirement::NotIn(key, values) => {
                label(object, key).is_none_or(|value| values.iter().all(|v| v != value))
            }
            Requirement::Exists(key) => label(object, key).is_some(),
            Requirement::Absent(key) => label(object, key).is_none(),
        });
        let fields = self
            .fields
            .iter()
            .all(|(pointer, equal, value)| (text(object, pointer) == value) == *equal);
        labels && fields
    }
}

fn labels(text: &str) -> Result<Vec<Requirement>, ApiError> {
    split(text).into_iter().map(requirement).collect()
}

fn requirement(text: &str) -> Result<Requirement, ApiError> {
    let values = |list: &str| {
        list.trim_matches(['(', ')', ' ']).split(',').map(|value| value.trim().to_owned()).collect()
    };
    if let Some((key, list)) = text.split_once(" notin ") {
        return Ok(Requirement::NotIn(key.trim().to_owned(), values(list)));
    }
    if let Some((key, list)) = text.split_once(" in ") {
        return Ok(Requirement::In(key.trim().to_owned(), values(list)));
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Requirement::In(key.trim().to_owned(), vec![value.trim().to_owned()]));
    }
    if text.contains(char::is_whitespace) {
        return Err(ApiError::new(400, format!("unable to parse requirement: {text:?}")));
    }
    Ok(match text.strip_prefix('!') {
        Some(key) => Requirement::Absent(key.to_owned()),
        None => Requirement::Exists(text.to_owned()),
    })
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn fields(text: &str, kind: &Kind) -> Result<Vec<(String, bool, String)>, ApiError> {
    split(text)
        .into_iter()
        .map(|part| {
            let (field, equal, value) = if let Some((field, value)) = part.split_once("!=") {
                (field, false, value)
            } else if let Some((field, value)) =
                part.split_once("==").or_else(|| part.split_once('='))
            {
                (field, true, value)
            } else {
                return Err(ApiError::new(400, format!("invalid field selector: {part:?}")));
            };
            if !(selectable(kind).contains(&field)
                || field == "metadata.name"
                || field == "metadata.namespace" && kind.namespaced)
            {
                return Err(ApiError::new(400, format!("field label not supported: {field}")));
            }
            let field = if field == "source" { "source.component" } else { field };
            Ok((format!("/{}", field.replace('.', "/")), equal, value.to_owned()))
        })
        .collect()
}

/// Returns the fields that a field selector may use, besides name and namespace.
fn selectable(kind: &Kind) -> &'static [&'static str] {
    match (kind.group, kind.plural) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("", "namespaces") => &["status.phase"],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "secrets") => &["type"],
        ("apps", "replicasets") => &["status.replicas"],
        ("batch", "jobs") => &["status.successful"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::PODS;
    use serde_json::json;

    #[test]
    fn selectors_match_like_in_kubernetes() {
        let pod = json!({
            "metadata": {"name": "a", "labels": {"app": "plex", "tier": "web"}},
            "status": {"phase": "Running"},
        });
        let matches = |label_selector: &str, field_selector: &str| {
            let selector = Selector {
                labels: labels(label_selector).expect("labels parse"),
                fields: fields(field_selector, PODS).expect("fields parse"),
            };
            selector.matches(&pod)
        };
        assert!(matches("app=plex,tier in (web, api)", ""));
        assert!(matches("app==plex,!canary", "status.phase=Running"));
        assert!(matches("app notin (sonarr)", "metadata.name!=b"));
        assert!(!matches("app!=plex", ""));
        assert!(!matches("canary", ""));
        assert!(!matches("", "status.phase=Pending"));
        assert!(
            fields("weather=fine", PODS).is_err() && fields("spec.weather=fine", PODS).is_err()
        );
    }
}
