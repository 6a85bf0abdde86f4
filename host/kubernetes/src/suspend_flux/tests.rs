//! Whose suspension it is.

use super::release::{Hold, hold, unmark};
use super::*;
use salve_core::effect::shared::FluxKind;
use salve_core::effect::suspend_flux::{Resume, Resumed};

const NOW: Millis = 1_787_000_000_000;

fn target() -> FluxRef {
    FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: "plex".into() }
}

fn object(suspend: Value, annotations: Value) -> Value {
    json!({"metadata": {"name": "plex", "namespace": "media", "uid": "u", "resourceVersion": "5", "annotations": annotations}, "spec": {"suspend": suspend}})
}

fn refusal(object: &Value) -> String {
    match standing(&target(), object, "ours", false, NOW) {
        Err(Error::Conflict(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_free_standing() {
    for free in [object(Value::Null, Value::Null), object(json!(false), Value::Null)] {
        assert_eq!(standing(&target(), &free, "ours", false, NOW), Ok(Precheck::Free));
    }
}

#[test]
fn what_another_run_holds_is_refused_and_what_a_person_holds_is_theirs() {
    assert!(
        refusal(&object(json!(true), json!({RUN: "theirs", REASON: "mending"})))
            .contains("run theirs (mending)")
    );
    assert!(
        refusal(&object(json!(false), json!({RUN: "theirs", DEADLINE: time::seconds(NOW + 1000)})))
            .contains("run theirs")
    );
    let mut by_hand = object(json!(true), Value::Null);
    by_hand["metadata"]["managedFields"] = json!([{"manager": "kubectl-patch", "operation": "Update", "time": "2026-08-11T18:00:00Z", "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
    let Ok(Precheck::Theirs(why)) = standing(&target(), &by_hand, "ours", false, NOW) else {
        panic!("it is theirs")
    };
    assert!(why.contains("by kubectl-patch since 2026-08-11T18:00:00Z"), "{why}");
    let mut going = object(Value::Null, Value::Null);
    going["metadata"]["deletionTimestamp"] = "2026-08-11T18:00:00Z".into();
    assert!(refusal(&going).contains("being deleted"));
}

#[test]
fn a_mark_that_a_dead_run_left_on_a_resumed_object_holds_nobody_up() {
    let stale = object(Value::Null, json!({RUN: "theirs", DEADLINE: time::seconds(NOW - 1000)}));
    assert_eq!(standing(&target(), &stale, "ours", false, NOW), Ok(Precheck::Free));
}

#[test]
fn a_parent_that_would_revert_is_named() {
    let mut contested = object(json!(false), Value::Null);
    contested["metadata"]["labels"] = json!({"kustomize.toolkit.fluxcd.io/name": "cluster-apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
    contested["metadata"]["managedFields"] = json!([{"manager": "kustomize-controller", "operation": "Apply", "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
    let text = refusal(&contested);
    assert!(
        text.contains("Kustomization flux-system/cluster-apps")
            && text.contains("kustomize-controller"),
        "{text}"
    );
    assert_eq!(standing(&target(), &contested, "ours", true, NOW), Ok(Precheck::Free));
}

#[test]
fn what_this_run_suspended_already_is_answered_and_not_sent_again() {
    let ours = object(json!(true), json!({RUN: "ours", PRIOR: "false"}));
    assert_eq!(
        standing(&target(), &ours, "ours", false, NOW),
        Ok(Precheck::Ours(Suspended { uid: "u".into(), previous: PreviousSuspend::False }))
    );
}

fn resume(previous: PreviousSuspend) -> Resume {
    Resume { target: target(), uid: "u".into(), previous }
}

fn nothing(ask: &Resume, object: Option<&Value>) -> Resumed {
    match hold(ask, object, "ours") {
        Hold::Nothing(resumed) => resumed,
        Hold::Ours | Hold::MarkOnly(_) => panic!("it is held"),
    }
}

#[test]
fn a_hold_ends_where_somebody_took_over() {
    let ask = resume(PreviousSuspend::Absent);
    assert!(matches!(
        hold(&ask, Some(&object(json!(true), json!({RUN: "ours"}))), "ours"),
        Hold::Ours
    ));
    assert_eq!(nothing(&ask, None).taken_over.as_deref(), Some("it was deleted"));
    let mut namesake = object(json!(true), json!({RUN: "ours"}));
    namesake["metadata"]["uid"] = "v".into();
    assert!(nothing(&ask, Some(&namesake)).taken_over.unwrap().contains("another object"));
    assert!(
        nothing(&ask, Some(&object(json!(true), json!({RUN: "theirs"}))))
            .taken_over
            .unwrap()
            .contains("theirs")
    );
    assert_eq!(
        nothing(&ask, Some(&object(json!(true), Value::Null))).restored,
        PreviousSuspend::True
    );
    assert_eq!(
        nothing(&ask, Some(&object(Value::Null, Value::Null))),
        Resumed { restored: PreviousSuspend::Absent, taken_over: None }
    );
    assert!(matches!(
        hold(&ask, Some(&object(json!(false), json!({RUN: "ours"}))), "ours"),
        Hold::MarkOnly(_)
    ));
}

#[test]
fn a_person_who_suspended_it_anew_keeps_it() {
    let mut anew = object(json!(true), json!({RUN: "ours"}));
    anew["metadata"]["managedFields"] = json!([{"manager": "flux", "operation": "Update", "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
    assert!(
        matches!(hold(&resume(PreviousSuspend::Absent), Some(&anew), "ours"), Hold::MarkOnly(why) if why.contains("flux"))
    );
}

#[test]
fn three_states_are_restored_as_three_writes() {
    let object = object(json!(true), json!({RUN: "ours"}));
    let written = |observed| unmark(&resume(observed), &object, true)["spec"]["suspend"].clone();
    assert_eq!(
        [PreviousSuspend::Absent, PreviousSuspend::False, PreviousSuspend::True].map(written),
        [Value::Null, json!(false), json!(true)]
    );
    let patch = unmark(&resume(PreviousSuspend::Absent), &object, false);
    assert!(patch.get("spec").is_none() && patch["metadata"]["annotations"][RUN].is_null());
    assert_eq!(
        (&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]),
        (&json!("u"), &json!("5"))
    );
}
