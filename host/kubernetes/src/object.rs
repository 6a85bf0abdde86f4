//! Reads single fields of objects, which stay JSON.

use crate::time;
use salve_core::Millis;
use salve_core::effect::shared::Condition;
use serde_json::Value;

/// The annotation in which `kubectl apply` keeps a whole manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Domains whose annotations steer controllers, with what is below them. Those of others can hold anything, passwords too.
const STEERING: [&str; 6] =
    ["fluxcd.io", "volsync.backube", "kubernetes.io", "k8s.io", "helm.sh", "salve.dev"];

/// The text at a JSON pointer; none where it is absent or empty.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The same as a string of its own.
pub(crate) fn owned(object: &Value, pointer: &str) -> Option<String> {
    text(object, pointer).map(str::to_owned)
}

/// The number at a JSON pointer.
pub(crate) fn number(object: &Value, pointer: &str) -> Option<u64> {
    object.pointer(pointer).and_then(Value::as_u64)
}

/// Whether a JSON pointer says true.
pub(crate) fn is_true(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// The list at a JSON pointer, empty where there is none.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The time at a JSON pointer.
pub(crate) fn instant(object: &Value, pointer: &str) -> Option<Millis> {
    text(object, pointer).and_then(time::millis)
}

/// `metadata.name`.
pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name").unwrap_or_default()
}

/// `metadata.namespace`.
pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace").unwrap_or_default()
}

/// `metadata.uid`.
pub(crate) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid").unwrap_or_default()
}

/// `metadata.resourceVersion`.
pub(crate) fn version(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion").unwrap_or_default()
}

/// `metadata.creationTimestamp`.
pub(crate) fn created(object: &Value) -> Millis {
    instant(object, "/metadata/creationTimestamp").unwrap_or_default()
}

/// Whether its deletion has been asked for.
pub(crate) fn is_terminating(object: &Value) -> bool {
    text(object, "/metadata/deletionTimestamp").is_some()
}

/// A label's value.
pub(crate) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}

/// An annotation's value.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// The owner that controls it, as its reference says.
pub(crate) fn controller(object: &Value) -> Option<&Value> {
    list(object, "/metadata/ownerReferences").iter().find(|owner| is_true(owner, "/controller"))
}

/// `Kind/name` of a reference.
pub(crate) fn slashed(reference: &Value) -> Option<String> {
    Some(format!("{}/{}", text(reference, "/kind")?, text(reference, "/name")?))
}

/// The finalizers.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    list(object, "/metadata/finalizers")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The condition of a type, as it stands.
pub(crate) fn raw_condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").iter().find(|one| text(one, "/type") == Some(kind))
}

/// The condition of a type.
pub(crate) fn condition(object: &Value, kind: &str) -> Option<Condition> {
    let one = raw_condition(object, kind)?;
    Some(Condition {
        kind: kind.to_owned(),
        status: owned(one, "/status").unwrap_or_else(|| "Unknown".into()),
        reason: owned(one, "/reason").unwrap_or_default(),
        message: capped(text(one, "/message").unwrap_or_default(), 4096),
        since: instant(one, "/lastTransitionTime"),
    })
}

/// Whether a condition is True, and for this reason if one is given.
pub(crate) fn holds(object: &Value, kind: &str, reason: Option<&str>) -> bool {
    raw_condition(object, kind).is_some_and(|one| {
        text(one, "/status") == Some("True")
            && reason.is_none_or(|r| text(one, "/reason") == Some(r))
    })
}

/// The manifest as it may be kept and shown: without managedFields, without the copy of itself that kubectl leaves, and without annotations
/// that steer nothing.
pub(crate) fn manifest(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            // mutant unrelated-annotations-kept: LAST_APPLIED && steers(key) ~> LAST_APPLIED
            annotations.retain(|key, _| key != LAST_APPLIED && steers(key));
        }
    }
    object
}

fn steers(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return false };
    STEERING.iter().any(|known| {
        domain.strip_suffix(known).is_some_and(|below| below.is_empty() || below.ends_with('.'))
    })
}

/// At most so many bytes of a text that somebody else wrote.
pub(crate) fn capped(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kept_manifest_holds_no_second_copy_of_itself() {
        let kept = json!({"kustomize.toolkit.fluxcd.io/prune": "disabled", "volsync.backube/privileged-movers": "true", "meta.helm.sh/release-name": "a"});
        let mut annotations = kept.clone();
        for (key, value) in [
            (LAST_APPLIED, "{password}"),
            ("note", "password"),
            ("example.com/token", "t"),
            ("notfluxcd.io/x", "t"),
            ("fluxcd.io.example.com/x", "t"),
        ] {
            annotations[key] = value.into();
        }
        let object = json!({"metadata": {"name": "a", "uid": "u", "managedFields": [{}], "annotations": annotations}, "unknown": 1});
        assert_eq!(
            manifest(object),
            json!({"metadata": {"name": "a", "uid": "u", "annotations": kept}, "unknown": 1})
        );
    }

    #[test]
    fn long_texts_are_cut_between_letters() {
        assert_eq!(capped("äöü", 3), "ä…");
        assert_eq!(capped("abc", 3), "abc");
    }

    #[test]
    fn the_controller_is_the_owner_that_says_so() {
        let object = json!({"metadata": {"ownerReferences": [{"kind": "A", "name": "a"}, {"kind": "B", "name": "b", "controller": true}]}});
        assert_eq!(controller(&object).and_then(slashed).as_deref(), Some("B/b"));
        assert_eq!(
            controller(&json!({"metadata": {"ownerReferences": [{"kind": "A", "name": "a"}]}})),
            None
        );
    }
}
