//! Deciding who owns a suspension.

use super::drain::{Decision, Observed, WaitEnd};
use super::*;
use crate::temporary_change::release::{ReleaseAction, release_action, release_patch};
use salve_core::capability::types::FluxKind;

const NOW: Millis = 1_787_000_000_000;

fn target() -> FluxRef {
    FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: "plex".into() }
}

fn object(suspend: Value, annotations: Value) -> Value {
    json!({"metadata": {"name": "plex", "namespace": "media", "uid": "u", "resourceVersion": "5",
        "annotations": annotations}, "spec": {"suspend": suspend}})
}

fn conflict_message(object: &Value) -> String {
    match check_suspendable(&target(), object, "ours", false, NOW) {
        Err(Error::Conflict(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_object_that_is_not_suspended_can_be_suspended() {
    for object in [object(Value::Null, Value::Null), object(json!(false), Value::Null)] {
        assert_eq!(
            check_suspendable(&target(), &object, "ours", false, NOW),
            Ok(Precheck::Suspendable)
        );
    }
}

#[test]
fn a_suspension_by_another_run_is_a_conflict_and_one_by_a_user_is_kept() {
    assert!(
        conflict_message(&object(json!(true), json!({RUN: "theirs", REASON: "repair"})))
            .contains("run theirs (repair)")
    );
    assert!(
        conflict_message(&object(
            json!(false),
            json!({RUN: "theirs", DEADLINE: time::seconds(NOW + 1000)})
        ))
        .contains("run theirs")
    );
    let mut by_hand = object(json!(true), Value::Null);
    by_hand["metadata"]["managedFields"] = json!([{"manager": "kubectl-patch",
        "operation": "Update", "time": "2026-08-11T18:00:00Z",
        "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
    let Ok(Precheck::SuspendedByOther(why)) =
        check_suspendable(&target(), &by_hand, "ours", false, NOW)
    else {
        panic!("suspended by a user")
    };
    assert!(why.contains("by kubectl-patch since 2026-08-11T18:00:00Z"), "{why}");
    let mut terminating = object(Value::Null, Value::Null);
    terminating["metadata"]["deletionTimestamp"] = "2026-08-11T18:00:00Z".into();
    assert!(conflict_message(&terminating).contains("being deleted"));
}

#[test]
fn an_object_that_this_run_changed_otherwise_is_a_conflict() {
    let changed = object(json!(false), json!({RUN: "ours"}));
    assert!(conflict_message(&changed).contains("release that first"));
}

#[test]
fn expired_annotations_of_a_crashed_run_on_a_resumed_object_are_ignored() {
    let stale = object(Value::Null, json!({RUN: "theirs", DEADLINE: time::seconds(NOW - 1000)}));
    assert_eq!(check_suspendable(&target(), &stale, "ours", false, NOW), Ok(Precheck::Suspendable));
}

#[test]
fn a_parent_that_would_revert_is_named() {
    let mut contested = object(json!(false), Value::Null);
    contested["metadata"]["labels"] = json!({"kustomize.toolkit.fluxcd.io/name": "cluster-apps",
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
    contested["metadata"]["managedFields"] = json!([{"manager": "kustomize-controller",
        "operation": "Apply", "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
    let text = conflict_message(&contested);
    assert!(
        text.contains("Kustomization flux-system/cluster-apps")
            && text.contains("kustomize-controller"),
        "{text}"
    );
    assert_eq!(
        check_suspendable(&target(), &contested, "ours", true, NOW),
        Ok(Precheck::Suspendable)
    );
}

#[test]
fn an_object_that_this_run_already_suspended_is_reported_as_suspended() {
    let ours = object(json!(true), json!({RUN: "ours", PREVIOUS: "false"}));
    assert_eq!(
        check_suspendable(&target(), &ours, "ours", false, NOW),
        Ok(Precheck::SuspendedByThisRun(Suspended {
            uid: "u".into(),
            previous: PreviousSuspend::False
        }))
    );
}

#[test]
fn only_what_may_still_be_applied_fails_at_the_end_of_the_wait() {
    use crate::flux::Activity::{Applying, Idle, Preparing};
    let applying = || Applying("Running 'upgrade' action".into());
    let timeout = Some(WaitEnd::TimedOut(300));
    let decide =
        |activity, end| Observed { activity, interrupted_at: Some(NOW) }.decide(&target(), end);
    for (activity, end, expected) in [
        (Idle, None, Ok(Decision::Idle)),
        (Idle, timeout, Ok(Decision::Idle)),
        (Idle, Some(WaitEnd::Stopped), Ok(Decision::Idle)),
        (Preparing, None, Ok(Decision::Wait)),
        (Preparing, timeout, Ok(Decision::Idle)),
        (Preparing, Some(WaitEnd::Stopped), Err("stopped while")),
        (applying(), None, Ok(Decision::Wait)),
        (applying(), timeout, Err("within 300 s (its controller reports: Running 'upgrade'")),
        (applying(), timeout, Err("is down, try again after 2026-08-17T")),
        (applying(), Some(WaitEnd::Stopped), Err("stopped while")),
    ] {
        match (decide(activity, end), expected) {
            (Ok(decision), Ok(expected)) => assert_eq!(decision, expected),
            (Err(Error::Unavailable(text)), Err(part)) => assert!(text.contains(part), "{text}"),
            (decision, expected) => panic!("{decision:?} is not {expected:?}"),
        }
    }
}

fn resume(previous: PreviousSuspend) -> Resume {
    Resume { target: target(), uid: "u".into(), previous }
}

fn nothing(call: &Resume, object: Option<&Value>) -> Released {
    match release_action(call, object, "ours") {
        ReleaseAction::Nothing(released) => released,
        ReleaseAction::Restore | ReleaseAction::RemoveAnnotations(_) => {
            panic!("still suspended by this run")
        }
    }
}

#[test]
fn a_suspension_ends_when_someone_else_takes_over() {
    let call = resume(PreviousSuspend::Absent);
    assert!(matches!(
        release_action(&call, Some(&object(json!(true), json!({RUN: "ours"}))), "ours"),
        ReleaseAction::Restore
    ));
    assert_eq!(nothing(&call, None).taken_over.as_deref(), Some("it was deleted"));
    let mut replacement = object(json!(true), json!({RUN: "ours"}));
    replacement["metadata"]["uid"] = "v".into();
    assert!(nothing(&call, Some(&replacement)).taken_over.unwrap().contains("another object"));
    assert!(
        nothing(&call, Some(&object(json!(true), json!({RUN: "theirs"}))))
            .taken_over
            .unwrap()
            .contains("theirs")
    );
    let taken_over = nothing(&call, Some(&object(json!(true), Value::Null))).taken_over.unwrap();
    for part in ["spec.suspend is still true", "`flux resume kustomization plex -n media`"] {
        assert!(taken_over.contains(part), "{taken_over}");
    }
    assert_eq!(
        nothing(&call, Some(&object(Value::Null, Value::Null))),
        Released { taken_over: None }
    );
    assert!(matches!(
        release_action(&call, Some(&object(json!(false), json!({RUN: "ours"}))), "ours"),
        ReleaseAction::RemoveAnnotations(_)
    ));
}

#[test]
fn a_suspension_repeated_by_a_user_is_kept() {
    let mut object = object(json!(true), json!({RUN: "ours"}));
    object["metadata"]["managedFields"] = json!([{"manager": "flux", "operation": "Update",
        "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
    assert!(matches!(release_action(&resume(PreviousSuspend::Absent), Some(&object), "ours"),
            ReleaseAction::RemoveAnnotations(Some(why)) if why.contains("flux")));
}

#[test]
fn each_previous_value_is_restored_exactly() {
    let object = object(json!(true), json!({RUN: "ours"}));
    let written =
        |previous| release_patch(&resume(previous), &object, true)["spec"]["suspend"].clone();
    assert_eq!(
        [PreviousSuspend::Absent, PreviousSuspend::False, PreviousSuspend::True].map(written),
        [Value::Null, json!(false), json!(true)]
    );
    let patch = release_patch(&resume(PreviousSuspend::Absent), &object, false);
    assert!(patch.get("spec").is_none() && patch["metadata"]["annotations"][RUN].is_null());
    assert_eq!(
        (&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]),
        (&json!("u"), &json!("5"))
    );
}
