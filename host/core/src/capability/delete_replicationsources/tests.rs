use super::*;
use serde_json::json;

fn saved() -> Value {
    json!({
        "apiVersion": "volsync.backube/v1alpha1",
        "kind": "ReplicationSource",
        "metadata": {
            "name": "sonarr",
            "namespace": "media",
            "uid": "u",
            "resourceVersion": "1",
            "labels": {"app": "sonarr"},
            "finalizers": ["x/y"],
            "ownerReferences": [{"kind": "ConfigMap"}],
        },
        "spec": {"sourcePVC": "sonarr"},
        "status": {"lastSyncTime": "then"},
    })
}

#[test]
fn only_names_labels_annotations_and_spec_are_recreated() {
    let made = Manifest::of(&saved()).unwrap();
    assert_eq!(
        made.manifest,
        json!({
            "apiVersion": "volsync.backube/v1alpha1",
            "kind": "ReplicationSource",
            "metadata": {
                "name": "sonarr",
                "namespace": "media",
                "labels": {"app": "sonarr"},
            },
            "spec": {"sourcePVC": "sonarr"},
        })
    );
    assert!(Recreate { set: vec![made] }.validate().is_ok());
}

#[test]
fn an_untrusted_manifest_cannot_become_another_object() {
    let wrong = |change: fn(&mut Value)| {
        let mut object = saved();
        change(&mut object);
        Manifest::of(&object).is_err()
    };
    assert!(wrong(|o| o["kind"] = "Secret".into()));
    assert!(wrong(|o| o["apiVersion"] = "v1".into()));
    assert!(wrong(|o| o["apiVersion"] = "volsync.backube/../../v1".into()));
    assert!(wrong(|o| o["metadata"]["namespace"] = "media/../kube-system".into()));
    assert!(wrong(|o| o["metadata"]["name"] = "..".into()));
    assert!(wrong(|o| o["spec"] = "none".into()));
    assert!(wrong(|o| o["spec"]["x"] = "y".repeat(MAX_MANIFEST_BYTES).into()));
    let mut forged = Manifest::of(&saved()).unwrap();
    forged.manifest["metadata"]["finalizers"] = json!(["x/y"]);
    assert!(Recreate { set: vec![forged] }.validate().is_err());
    let mut other = Manifest::of(&saved()).unwrap();
    other.object.namespace = "ai".into();
    assert!(Recreate { set: vec![other] }.validate().is_err(), "grants are decided by its names");
}

fn target(namespace: &str, name: &str) -> DeletionTarget {
    DeletionTarget {
        object: ObjectRef::new(namespace, name),
        uid: format!("uid-{name}"),
        digest: "d".into(),
        reason: String::new(),
    }
}

fn delete(set: Vec<DeletionTarget>) -> Delete {
    Delete { set, pacing: Pacing { batch_size: 1, interval_ms: 0 } }
}

#[test]
fn a_set_becomes_one_command_per_namespace() {
    let set = vec![target("media", "sonarr"), target("ai", "x"), target("media", "radarr")];
    assert_eq!(
        delete(set).commands(None),
        [
            "kubectl delete replicationsource -n ai x",
            "kubectl delete replicationsource -n media sonarr radarr"
        ]
    );
}

#[test]
fn results_of_several_attempts_are_assembled_in_the_order_of_the_set() {
    let call = delete(vec![target("media", "a"), target("media", "b"), target("media", "c")]);
    let result = |name: &str, outcome| Deletion {
        object: ObjectRef::new("media", name),
        uid: format!("uid-{name}"),
        outcome,
        message: None,
    };
    let parts = vec![
        vec![result("b", DeletionOutcome::Deleted)],
        vec![result("a", DeletionOutcome::Replaced)],
    ];
    let error = Error::Unavailable("no response".into());
    let unfinished = Unfinished { error, sent: true, unknown: true };
    let assembled = call.assemble(parts.clone(), Some(&unfinished)).unwrap();
    let outcomes: Vec<_> = assembled.iter().map(|one| one.outcome).collect();
    use DeletionOutcome::{Deleted, Replaced, Unknown};
    assert_eq!(outcomes, [Replaced, Deleted, Unknown]);
    let not_sent = Unfinished { sent: false, ..unfinished };
    assert!(call.assemble(parts, Some(&not_sent)).is_err(), "the set as a whole failed");
}
