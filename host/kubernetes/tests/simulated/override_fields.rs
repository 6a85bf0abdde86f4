//! `override-fields`: exact restoration of a field of any kind, even if responses are lost.

use crate::fixture::{Fixture, RUN, VOLSYNC, answered, write};
use salve_core::capability::Pending;
use salve_core::capability::call::WriteCall;
use salve_core::capability::host::{FindLeftovers, Leftover};
use salve_core::capability::override_fields::{Override, OverrideOutcome, PreviousValue, Restore};
use salve_core::capability::run_annotations::{self, previous_key};
use salve_core::capability::types::Kind;
use salve_core::capability::types::ObjectRef;
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::ApplyOutcome;
use salve_simulator::{Fault, Incident};
use serde_json::{Value, json};

const FIELD: &str = "spec.trigger.attempts";

fn kind() -> Kind {
    Kind { group: VOLSYNC.into(), resource: "replicationsources".into() }
}

fn call(value: i64) -> Override {
    Override {
        kind: kind(),
        object: ObjectRef::new("media", "plex"),
        field: FIELD.into(),
        value,
        reason: "repair".into(),
    }
}

fn change(fixture: &Fixture, change: impl FnOnce(&mut Value)) {
    assert!(fixture.simulator.edit(VOLSYNC, "replicationsources", "media", "plex", change));
}

fn object(fixture: &Fixture) -> Value {
    fixture.simulator.object(VOLSYNC, "replicationsources", "media", "plex").unwrap()
}

fn restore(call: &Override, uid: String, previous: PreviousValue) -> Restore {
    let Override { kind, object, field, value, .. } = call.clone();
    Restore { kind, object, uid, field, value, previous }
}

async fn overridden(fixture: &Fixture, call: &Override) -> Restore {
    match fixture.write(call.clone()).await.unwrap() {
        OverrideOutcome::Set { uid, previous } => restore(call, uid, previous),
        OverrideOutcome::Unchanged => panic!("the field had the value"),
    }
}

async fn leftovers(fixture: &Fixture) -> Vec<Leftover> {
    fixture.read(FindLeftovers { kinds: vec![kind()] }).await.unwrap()
}

#[tokio::test]
async fn all_states_of_the_field_are_restored_exactly() {
    for (before, previous, value) in [
        (Value::Null, PreviousValue::Absent, 7),
        (Value::Null, PreviousValue::Absent, 0),
        (json!(0), PreviousValue::Value(0), 7),
        (json!(3), PreviousValue::Value(3), 0),
    ] {
        let fixture = Fixture::new(Incident::Playbook);
        change(&fixture, |object| {
            if !before.is_null() {
                object["spec"]["trigger"]["attempts"] = before.clone();
            }
        });
        let spec = object(&fixture)["spec"].clone();
        let call = call(value);
        let restore = overridden(&fixture, &call).await;
        assert_eq!(restore.previous, previous);
        let now = object(&fixture);
        assert_eq!(now["spec"]["trigger"]["attempts"], value);
        let annotations = &now["metadata"]["annotations"];
        assert_eq!(
            (&annotations[run_annotations::RUN], &annotations[previous_key(FIELD)]),
            (&json!(RUN), &json!(previous.annotation()))
        );
        let found = leftovers(&fixture).await;
        assert_eq!((found.len(), found[0].run.as_str(), found[0].active), (1, RUN, true));
        assert_eq!(found[0].reversal, restore.clone().into());

        let released = fixture.release(restore).await.unwrap();
        assert_eq!(released.taken_over, None);
        let now = object(&fixture);
        assert_eq!(now["spec"], spec);
        assert!(!now["metadata"]["annotations"].to_string().contains("salve.dev"));
        assert_eq!(leftovers(&fixture).await, []);
    }
}

#[tokio::test]
async fn a_field_that_has_the_value_is_left_alone() {
    let fixture = Fixture::new(Incident::Playbook);
    change(&fixture, |object| object["spec"]["trigger"]["attempts"] = 3.into());
    assert_eq!(fixture.write(call(3)).await, Ok(OverrideOutcome::Unchanged));
    assert_eq!(fixture.request_bodies("PATCH"), [Value::Null; 0]);
}

#[tokio::test]
async fn what_cannot_be_overridden_is_an_error_and_nothing_is_sent() {
    let fixture = Fixture::new(Incident::Playbook);
    let with_field = |field: &str| Override { field: field.into(), ..call(1) };
    for (call, expected) in [
        (with_field("spec.sourcePVC"), "not an integer"),
        (with_field("spec.missing.attempts"), "does not exist"),
        (Override { object: ObjectRef::new("media", "missing"), ..call(1) }, "does not exist"),
        (
            Override { kind: Kind { group: VOLSYNC.into(), resource: "none".into() }, ..call(1) },
            "CRD",
        ),
    ] {
        let error = fixture.write(call).await.unwrap_err();
        assert!(error.text().contains(expected), "{error}");
    }
    change(&fixture, |object| {
        object["metadata"]["annotations"] = json!({run_annotations::RUN: "run-2"});
    });
    let error = fixture.write(call(1)).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict(text) if text.contains("run-2")), "{error}");
    assert_eq!(fixture.request_bodies("PATCH"), [Value::Null; 0]);
}

#[tokio::test]
async fn a_second_change_of_the_same_object_by_this_run_is_a_conflict() {
    let fixture = Fixture::new(Incident::Playbook);
    overridden(&fixture, &call(7)).await;
    let error = fixture.write(call(8)).await.unwrap_err();
    assert!(error.text().contains("release that first"), "{error}");
    let again = fixture.write(call(7)).await.unwrap();
    assert!(
        matches!(again, OverrideOutcome::Set { previous: PreviousValue::Absent, .. }),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_concurrent_change_is_a_conflict_and_nothing_is_applied() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = write(call(7));
    let observed = fixture.observe(&call).await;
    change(&fixture, |object| object["spec"]["trigger"]["attempts"] = 5.into());
    assert!(matches!(fixture.apply(&call, &observed).await, ApplyOutcome::Conflict { .. }));
    assert_eq!(object(&fixture)["spec"]["trigger"]["attempts"], 5);
}

#[tokio::test]
async fn a_lost_response_is_resolved_by_reading() {
    for fault in [Fault::status(504), Fault::dropped(), Fault::garbage()] {
        for applied in [true, false] {
            let fixture = Fixture::new(Incident::Playbook);
            let call = write(call(7));
            let observed = fixture.observe(&call).await;
            let fault = fault.clone().on("patch").first(1);
            fixture.simulator.fault(if applied { fault.after_applying() } else { fault });
            let outcome = fixture.apply(&call, &observed).await;
            if applied {
                let answer = answered::<Override>(outcome);
                assert!(matches!(answer, OverrideOutcome::Set { .. }), "{answer:?}");
            } else {
                assert!(matches!(outcome, ApplyOutcome::Conflict { .. }), "{outcome:?}");
                let now = object(&fixture);
                assert!(now["spec"]["trigger"].get("attempts").is_none());
                assert_ne!(
                    now["metadata"]["resourceVersion"],
                    observed.objects[0]["metadata"]["resourceVersion"],
                    "a late request would fail because of its resourceVersion"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_change_that_may_still_arrive_is_invalidated_by_its_release() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = call(7);
    let observed = fixture.observe(&write(call.clone())).await;
    // The first poll sends the request; the response is never awaited.
    assert!(futures::poll!(Box::pin(fixture.apply(&write(call.clone()), &observed))).is_pending());
    let pending = prepared(&call, &observed);
    fixture.release_after(pending, Some(&observed)).await.unwrap();
    let now = object(&fixture);
    assert!(now["spec"]["trigger"].get("attempts").is_none());
    assert_ne!(
        now["metadata"]["resourceVersion"],
        observed.objects[0]["metadata"]["resourceVersion"]
    );
    assert!(!now["metadata"]["annotations"].to_string().contains("salve.dev"));
}

fn prepared(call: &Override, observed: &ObservedState) -> Restore {
    let [Pending { reversal, in_doubt: true }] = &*call.reversals(observed, None) else {
        panic!("one reversal")
    };
    reversal.clone()
}

#[tokio::test]
async fn a_person_who_takes_over_wins() {
    type Edit = fn(&mut Value);
    let take_over: [(&str, Edit); 4] = [
        ("set spec.trigger.attempts to 5", |o| o["spec"]["trigger"]["attempts"] = 5.into()),
        ("spec.trigger.attempts is still 7, as this run set it: if no one else needs that", |o| {
            o["metadata"]["annotations"] = json!({});
        }),
        ("removed this run's annotations; spec.trigger.attempts is now 5", |o| {
            o["metadata"]["annotations"] = json!({});
            o["spec"]["trigger"]["attempts"] = 5.into();
        }),
        ("run-2 took it over", |o| {
            o["metadata"]["annotations"][run_annotations::RUN] = "run-2".into();
        }),
    ];
    for (expected, edit) in take_over {
        let fixture = Fixture::new(Incident::Playbook);
        let restore = overridden(&fixture, &call(7)).await;
        change(&fixture, edit);
        let before = object(&fixture)["spec"].clone();
        let released = fixture.release(restore).await.unwrap();
        let why = released.taken_over.unwrap_or_default();
        assert!(why.contains(expected), "{expected}: {why}");
        assert_eq!(object(&fixture)["spec"], before);
    }
    let fixture = Fixture::new(Incident::Playbook);
    let restore = overridden(&fixture, &call(7)).await;
    change(&fixture, |object| {
        object["spec"]["trigger"].as_object_mut().unwrap().remove("attempts");
    });
    let released = fixture.release(restore).await.unwrap();
    assert_eq!(released.taken_over, None, "it is as before");
    assert_eq!(leftovers(&fixture).await, []);
}
