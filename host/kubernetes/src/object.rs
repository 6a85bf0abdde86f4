//! Reads fields of Kubernetes objects, which are kept as JSON.

use crate::time;
use salve_core::Millis;
use salve_core::capability::types::Condition;
use serde_json::Value;

/// The annotation in which `kubectl apply` stores the manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Domains, including subdomains, whose annotations control controllers. Annotations of other
/// domains can hold anything, including passwords.
const CONTROLLER_DOMAINS: [&str; 8] = [
    "fluxcd.io",
    "fluxcd.controlplane.io",
    "argoproj.io",
    "volsync.backube",
    "kubernetes.io",
    "k8s.io",
    "helm.sh",
    "salve.dev",
];

/// Returns the string at a JSON pointer, or None if it is absent or empty.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Like [`text`], as an owned string.
pub(crate) fn owned(object: &Value, pointer: &str) -> Option<String> {
    text(object, pointer).map(str::to_owned)
}

pub(crate) fn number(object: &Value, pointer: &str) -> Option<u64> {
    object.pointer(pointer).and_then(Value::as_u64)
}

pub(crate) fn is_true(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// Returns the array at a JSON pointer, or an empty one.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns the RFC 3339 time at a JSON pointer.
pub(crate) fn instant(object: &Value, pointer: &str) -> Option<Millis> {
    text(object, pointer).and_then(time::millis)
}

/// Returns `metadata.name`.
pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name").unwrap_or_default()
}

/// Returns `metadata.namespace`.
pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace").unwrap_or_default()
}

/// Returns `metadata.uid`.
pub(crate) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid").unwrap_or_default()
}

/// Returns `metadata.resourceVersion`.
pub(crate) fn version(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion").unwrap_or_default()
}

/// Returns `metadata.creationTimestamp`.
pub(crate) fn created(object: &Value) -> Millis {
    instant(object, "/metadata/creationTimestamp").unwrap_or_default()
}

/// Returns true if `metadata.deletionTimestamp` is set.
pub(crate) fn is_terminating(object: &Value) -> bool {
    text(object, "/metadata/deletionTimestamp").is_some()
}

pub(crate) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}

pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// Returns the owner reference with `controller: true`.
pub(crate) fn controller(object: &Value) -> Option<&Value> {
    list(object, "/metadata/ownerReferences").iter().find(|owner| is_true(owner, "/controller"))
}

/// Formats an object reference as `Kind/name`.
pub(crate) fn kind_and_name(reference: &Value) -> Option<String> {
    Some(format!("{}/{}", text(reference, "/kind")?, text(reference, "/name")?))
}

pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    list(object, "/metadata/finalizers")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Returns the status condition of a type as JSON.
pub(crate) fn raw_condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == Some(kind))
}

/// Returns the status condition of a type.
pub(crate) fn condition(object: &Value, kind: &str) -> Option<Condition> {
    let condition = raw_condition(object, kind)?;
    Some(Condition {
        kind: kind.to_owned(),
        status: owned(condition, "/status").unwrap_or_else(|| "Unknown".into()),
        reason: owned(condition, "/reason").unwrap_or_default(),
        message: truncated(text(condition, "/message").unwrap_or_default(), 4096),
        since: instant(condition, "/lastTransitionTime"),
    })
}

/// Returns true if a status condition is `True`, for `reason` if one is given.
pub(crate) fn is_condition_true(object: &Value, kind: &str, reason: Option<&str>) -> bool {
    raw_condition(object, kind).is_some_and(|condition| {
        text(condition, "/status") == Some("True")
            && reason.is_none_or(|r| text(condition, "/reason") == Some(r))
    })
}

/// Returns the manifest as it may be saved and shown: without managedFields, without the copy of
/// itself that kubectl stores, and without annotations that control no controller.
pub(crate) fn manifest(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            // mutant unrelated-annotations-kept: LAST_APPLIED && is_controller_annotation(key) ~>
            //     LAST_APPLIED
            annotations.retain(|key, _| key != LAST_APPLIED && is_controller_annotation(key));
        }
    }
    object
}

fn is_controller_annotation(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return false };
    CONTROLLER_DOMAINS.iter().any(|known| {
        domain.strip_suffix(known).is_some_and(|below| below.is_empty() || below.ends_with('.'))
    })
}

/// Truncates text from the cluster to `max` bytes.
pub(crate) fn truncated(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_saved_manifest_has_no_last_applied_copy_and_no_unrelated_annotations() {
        let expected = json!({"kustomize.toolkit.fluxcd.io/prune": "disabled",
            "fluxcd.controlplane.io/reconcile": "disabled",
            "argocd.argoproj.io/tracking-id": "apps:/PersistentVolumeClaim:media/plex",
            "volsync.backube/privileged-movers": "true", "meta.helm.sh/release-name": "a"});
        let mut annotations = expected.clone();
        for (key, value) in [
            (LAST_APPLIED, "{password}"),
            ("note", "password"),
            ("example.com/token", "t"),
            ("notfluxcd.io/x", "t"),
            ("fluxcd.io.example.com/x", "t"),
        ] {
            annotations[key] = value.into();
        }
        let object = json!({"metadata": {"name": "a", "uid": "u", "managedFields": [{}],
            "annotations": annotations}, "unknown": 1});
        assert_eq!(
            manifest(object),
            json!({"metadata": {"name": "a", "uid": "u", "annotations": expected}, "unknown": 1})
        );
    }

    #[test]
    fn text_is_truncated_between_characters() {
        assert_eq!(truncated("äöü", 3), "ä…");
        assert_eq!(truncated("abc", 3), "abc");
    }

    #[test]
    fn the_controller_is_the_owner_marked_as_controller() {
        let object = json!({"metadata": {"ownerReferences": [{"kind": "A", "name": "a"},
            {"kind": "B", "name": "b", "controller": true}]}});
        assert_eq!(controller(&object).and_then(kind_and_name).as_deref(), Some("B/b"));
        assert_eq!(
            controller(&json!({"metadata": {"ownerReferences": [{"kind": "A", "name": "a"}]}})),
            None
        );
    }
}
