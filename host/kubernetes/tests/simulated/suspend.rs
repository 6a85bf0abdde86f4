//! `suspend-flux` and `reconcile-flux`: exact restoration, even if responses are lost.

use crate::fixture::{Fixture, KUSTOMIZE, RUN, answered, app, single_result, take, write};
use salve_core::capability::host::FindLeftovers;
use salve_core::capability::query_flux;
use salve_core::capability::reconcile_flux::Reconcile;
use salve_core::capability::run_annotations;
use salve_core::capability::suspend_flux::{
    PreviousSuspend, Resume, Suspend, SuspendOutcome, SuspendResult,
};
use salve_core::capability::types::ObjectRef;
use salve_core::capability::{Reversal, Write};
use salve_core::outcome::Error;
use salve_run::ApplyOutcome;
use salve_simulator::{Fault, Incident};
use serde_json::{Value, json};

pub fn suspend(name: &str) -> Suspend {
    Suspend { targets: vec![app("media", name)], reason: "repair".into(), drain_seconds: 30 }
}

pub fn change(fixture: &Fixture, name: &str, change: impl FnOnce(&mut Value)) {
    change_in(fixture, "media", name, change);
}

fn change_in(fixture: &Fixture, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
    assert!(fixture.simulator.edit(KUSTOMIZE, "kustomizations", namespace, name, change));
}

#[tokio::test]
async fn all_states_of_the_field_are_restored_exactly() {
    for (before, previous) in
        [(Value::Null, PreviousSuspend::Absent), (json!(false), PreviousSuspend::False)]
    {
        let fixture = Fixture::new(Incident::Playbook);
        change(&fixture, "plex", |object| {
            if !before.is_null() {
                object["spec"]["suspend"] = before.clone();
            }
        });
        let original = fixture.kustomization("media", "plex");
        let suspended = fixture.suspend(suspend("plex")).await.unwrap();
        assert_eq!(
            (suspended.previous, suspended.uid.as_str()),
            (previous, original["metadata"]["uid"].as_str().unwrap())
        );
        let object = fixture.kustomization("media", "plex");
        assert_eq!(
            (&object["spec"]["suspend"], &object["metadata"]["annotations"][run_annotations::RUN]),
            (&json!(true), &json!(RUN))
        );
        let resume = Resume { target: app("media", "plex"), uid: suspended.uid, previous };
        let found = fixture.read(FindLeftovers { kinds: vec![] }).await.unwrap();
        assert_eq!((found.len(), found[0].run.as_str(), found[0].active), (1, RUN, true));
        assert_eq!(found[0].reversal, Reversal::Resume(resume.clone()));
        assert_eq!(fixture.release(resume).await.unwrap().taken_over, None);
        let after = fixture.kustomization("media", "plex");
        assert_eq!(
            (
                after["spec"].clone(),
                after["metadata"].get("annotations").filter(|a| *a != &json!({}))
            ),
            (original["spec"].clone(), original["metadata"].get("annotations"))
        );
        assert!(fixture.read(FindLeftovers { kinds: vec![] }).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_suspension_by_a_user_is_kept() {
    let fixture = Fixture::new(Incident::Playbook);
    let error = fixture.suspend(suspend("lidarr")).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict(text) if text.contains("by flux")), "{error}");
    let error = fixture
        .write(Reconcile { target: app("media", "lidarr"), force: false, wait_seconds: 10 })
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Conflict(text) if text.contains("suspended")), "{error}");
    assert!(fixture.simulator.mutations().is_empty());
}

#[tokio::test]
async fn a_suspension_by_another_run_is_a_conflict_that_names_the_run() {
    let fixture = Fixture::new(Incident::Playbook);
    change(&fixture, "plex", |object| {
        object["spec"]["suspend"] = true.into();
        object["metadata"]["annotations"] = json!({run_annotations::RUN: "run-2"});
    });
    let error = fixture.suspend(suspend("plex")).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict(text) if text.contains("run-2")), "{error}");
}

#[tokio::test]
async fn a_parent_that_would_revert_has_to_be_suspended_first() {
    let fixture = Fixture::new(Incident::Playbook);
    change(&fixture, "plex", |object| {
        object["spec"]["suspend"] = false.into();
        object["metadata"]["managedFields"] = json!([{"manager": "kustomize-controller",
            "operation": "Apply", "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
    });
    assert!(
        fixture
            .read(query_flux::GetFluxObject { target: app("media", "plex") })
            .await
            .unwrap()
            .parent_reverts
    );
    let error = fixture.suspend(suspend("plex")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Conflict(text) if text.contains("flux-system/cluster-apps")),
        "{error}"
    );
    fixture
        .suspend(Suspend {
            targets: vec![app("flux-system", "cluster-apps")],
            reason: String::new(),
            drain_seconds: 30,
        })
        .await
        .unwrap();
    assert!(
        !fixture
            .read(query_flux::GetFluxObject { target: app("media", "plex") })
            .await
            .unwrap()
            .parent_reverts
    );
    fixture.suspend(suspend("plex")).await.unwrap();
}

#[tokio::test]
async fn a_parent_that_waits_for_the_health_of_its_children_is_known_until_it_is_suspended() {
    let fixture = Fixture::new(Incident::Playbook);
    let subject = query_flux::Subject {
        kind: query_flux::SubjectKind::ReplicationSource,
        object: ObjectRef::new("media", "plex"),
    };
    let waits = async || {
        let by_name =
            fixture.read(query_flux::GetFluxObject { target: app("media", "plex") }).await.unwrap();
        let as_owner =
            fixture.read(query_flux::FindOwners { subjects: vec![subject.clone()] }).await.unwrap();
        assert_eq!(as_owner[0].owner.as_ref().unwrap(), &by_name);
        by_name.parent_waits
    };
    assert!(!waits().await);
    change_in(&fixture, "flux-system", "cluster-apps", |object| {
        object["spec"]["wait"] = true.into();
    });
    assert!(waits().await);
    change_in(&fixture, "flux-system", "cluster-apps", |object| {
        object["spec"]["suspend"] = true.into();
    });
    assert!(!waits().await);
}

#[tokio::test]
async fn an_object_that_a_resource_set_would_resume_is_not_suspended() {
    let fixture = Fixture::new(Incident::Playbook);
    change(&fixture, "plex", |object| {
        object["spec"]["suspend"] = false.into();
        object["metadata"]["labels"] = json!({
            "resourceset.fluxcd.controlplane.io/name": "apps",
            "resourceset.fluxcd.controlplane.io/namespace": "flux-system",
        });
        object["metadata"]["managedFields"] = json!([{"manager": "flux-operator",
            "operation": "Apply", "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
    });
    let error = fixture.write(set(&["radarr", "plex"])).await.unwrap_err();
    assert!(
        matches!(&error, Error::Conflict(text)
            if text.contains("ResourceSet flux-system/apps sets spec.suspend of Kustomization")
                && text.contains("fluxcd.controlplane.io/reconcile=disabled")),
        "{error}"
    );
    assert!(fixture.simulator.mutations().is_empty(), "radarr is not suspended either");
    change(&fixture, "plex", |object| object["spec"]["suspend"] = true.into());
    let results = fixture.write(set(&["radarr", "plex"])).await.unwrap();
    assert_eq!(outcome_names(&results), ["suspended", "already suspended"], "{results:?}");
}

#[tokio::test]
async fn a_concurrent_change_is_a_conflict_and_nothing_is_applied() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = write(suspend("plex"));
    let previous = fixture.observe(&call).await;
    change(&fixture, "plex", |object| object["metadata"]["labels"]["seen"] = "now".into());
    assert!(matches!(
        fixture.apply(&call, &previous).await,
        ApplyOutcome::Conflict { completed: None, .. }
    ));
    assert!(fixture.kustomization("media", "plex")["spec"].get("suspend").is_none());
    fixture.suspend(suspend("plex")).await.unwrap();
}

#[tokio::test]
async fn a_suspend_with_a_lost_response_is_resolved_by_reading() {
    for fault in [Fault::status(504), Fault::dropped(), Fault::garbage()] {
        let fixture = Fixture::new(Incident::Playbook);
        let call = write(suspend("plex"));
        let previous = fixture.observe(&call).await;
        fixture.simulator.fault(fault.on("patch").first(1).after_applying());
        assert_eq!(
            single_result(answered::<Suspend>(fixture.apply(&call, &previous).await))
                .unwrap()
                .previous,
            PreviousSuspend::Absent
        );
        assert_eq!(fixture.request_bodies("PATCH").len(), 1);
    }
}

#[tokio::test]
async fn a_lost_suspend_is_invalidated() {
    for fault in [Fault::status(504), Fault::status(500), Fault::dropped()] {
        let fixture = Fixture::new(Incident::Playbook);
        let call = write(suspend("plex"));
        let previous = fixture.observe(&call).await;
        fixture.simulator.fault(fault.on("patch").first(1));
        assert!(matches!(fixture.apply(&call, &previous).await, ApplyOutcome::Conflict { .. }));
        let now = fixture.kustomization("media", "plex");
        assert!(now["spec"].get("suspend").is_none());
        assert_ne!(
            now["metadata"]["resourceVersion"], previous.objects[0]["metadata"]["resourceVersion"],
            "a late request would fail because of its resourceVersion"
        );
        let annotations = now["metadata"].get("annotations").and_then(Value::as_object);
        assert!(
            annotations.is_none_or(|all| all.keys().all(|key| !key.starts_with("salve.dev/"))),
            "{annotations:?}"
        );
        fixture.suspend(suspend("plex")).await.unwrap();
    }
}

#[tokio::test]
async fn a_suspend_in_doubt_is_invalidated_by_its_release() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = write(suspend("plex"));
    let previous = fixture.observe(&call).await;
    fixture.simulator.fault(Fault::status(504).on("patch").first(1));
    fixture.simulator.fault(Fault::dropped().on("get").at("/kustomizations/plex").first(4));
    let result = answered::<Suspend>(fixture.apply(&call, &previous).await).remove(0);
    assert!(
        matches!(&result.outcome, SuspendOutcome::Failed { error,
            doubtful: true } if error.text().contains("may still change it")),
        "{result:?}"
    );
    let uid = previous.objects[0]["metadata"]["uid"].as_str().unwrap().to_owned();
    let released = fixture
        .release_after(
            Resume { target: app("media", "plex"), uid, previous: PreviousSuspend::Absent },
            Some(&previous),
        )
        .await
        .unwrap();
    assert_eq!(released.taken_over, None);
    let now = fixture.kustomization("media", "plex");
    assert!(now["spec"].get("suspend").is_none());
    assert_ne!(
        now["metadata"]["resourceVersion"],
        previous.objects[0]["metadata"]["resourceVersion"]
    );
    assert!(fixture.read(FindLeftovers { kinds: vec![] }).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_abandoned_suspend_is_invalidated_by_its_release() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = write(suspend("plex"));
    let previous = fixture.observe(&call).await;
    // The first poll sends the request; the response is never awaited.
    assert!(futures::poll!(Box::pin(fixture.apply(&call, &previous))).is_pending());
    let uid = previous.objects[0]["metadata"]["uid"].as_str().unwrap().to_owned();
    fixture
        .release_after(
            Resume { target: app("media", "plex"), uid, previous: PreviousSuspend::Absent },
            Some(&previous),
        )
        .await
        .unwrap();
    assert_ne!(
        fixture.kustomization("media", "plex")["metadata"]["resourceVersion"],
        previous.objects[0]["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn a_resume_with_a_lost_response_is_resolved_by_reading() {
    for applied in [true, false] {
        let fixture = Fixture::new(Incident::Playbook);
        let suspended = fixture.suspend(suspend("plex")).await.unwrap();
        let fault = Fault::status(504).on("patch").first(1);
        fixture.simulator.fault(if applied { fault.after_applying() } else { fault });
        let released = fixture
            .release(Resume {
                target: app("media", "plex"),
                uid: suspended.uid,
                previous: PreviousSuspend::Absent,
            })
            .await
            .unwrap();
        assert_eq!(released.taken_over, None);
        assert!(fixture.kustomization("media", "plex")["spec"].get("suspend").is_none());
    }
}

#[tokio::test]
async fn an_object_that_a_user_took_over_is_left_unchanged() {
    let fixture = Fixture::new(Incident::Playbook);
    let suspended = fixture.suspend(suspend("plex")).await.unwrap();
    change(&fixture, "plex", |object| object["spec"]["suspend"] = false.into());
    let resume = Resume {
        target: app("media", "plex"),
        uid: suspended.uid,
        previous: PreviousSuspend::Absent,
    };
    let released = fixture.release(resume.clone()).await.unwrap();
    assert!(released.taken_over.is_some(), "{released:?}");
    assert_eq!(fixture.kustomization("media", "plex")["spec"]["suspend"], false);
    assert!(
        fixture.read(FindLeftovers { kinds: vec![] }).await.unwrap().is_empty(),
        "the annotations are removed"
    );
    change(&fixture, "plex", |object| object["metadata"]["finalizers"] = json!([]));
    fixture.simulator.remove(KUSTOMIZE, "kustomizations", "media", "plex");
    let released = fixture.release(resume).await.unwrap();
    assert_eq!(released.taken_over.as_deref(), Some("it was deleted"));
}

#[tokio::test]
async fn a_drain_that_times_out_is_reported_and_can_be_released() {
    let fixture = Fixture::new(Incident::Playbook);
    change(&fixture, "plex", |object| {
        let reconciling = json!({"type": "Reconciling", "status": "True", "reason": "Progressing",
            "message": "", "lastTransitionTime": "2026-08-20T10:00:00Z"});
        object["status"]["conditions"].as_array_mut().unwrap().push(reconciling);
    });
    let call = write(Suspend { drain_seconds: 10, ..suspend("plex") });
    let previous = fixture.observe(&call).await;
    let error =
        single_result(answered::<Suspend>(fixture.apply(&call, &previous).await)).unwrap_err();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("10 s")), "{error}");
    let uid = previous.objects[0]["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!(
        fixture
            .release(Resume {
                target: app("media", "plex"),
                uid,
                previous: PreviousSuspend::Absent
            })
            .await
            .unwrap()
            .taken_over,
        None
    );
    assert!(fixture.kustomization("media", "plex")["spec"].get("suspend").is_none());
}

#[tokio::test]
async fn a_reconcile_request_is_sent_once_and_awaited() {
    let fixture = Fixture::new(Incident::Playbook);
    let done = fixture
        .write(Reconcile { target: app("media", "radarr"), force: false, wait_seconds: 120 })
        .await
        .unwrap();
    assert!(done.handled && done.ready, "{done:?}");
    fixture.simulator.fault(Fault::dropped().on("patch").first(1).after_applying());
    let done = fixture
        .write(Reconcile { target: app("media", "radarr"), force: false, wait_seconds: 120 })
        .await
        .unwrap();
    assert!(done.handled && done.ready, "{done:?}");
    assert_eq!(fixture.request_bodies("PATCH").len(), 2, "neither was sent twice");
}

pub fn set(names: &[&str]) -> Suspend {
    Suspend {
        targets: names.iter().map(|name| app("media", name)).collect(),
        reason: "repair".into(),
        drain_seconds: 30,
    }
}

pub fn outcome_names(results: &[SuspendResult]) -> Vec<&'static str> {
    let name = |result: &SuspendResult| match &result.outcome {
        SuspendOutcome::Suspended(_) => "suspended",
        SuspendOutcome::AlreadySuspended(_) => "already suspended",
        SuspendOutcome::Failed { .. } => "failed",
        SuspendOutcome::NotTried => "not tried",
    };
    results.iter().map(name).collect()
}

#[tokio::test]
async fn each_object_of_a_set_has_a_result_and_suspensions_by_users_are_kept() {
    let fixture = Fixture::new(Incident::Playbook);
    let results = fixture.write(set(&["plex", "lidarr", "bazarr"])).await.unwrap();
    assert_eq!(
        outcome_names(&results),
        ["suspended", "already suspended", "suspended"],
        "{results:?}"
    );
    assert_eq!(fixture.request_bodies("PATCH").len(), 2);
}

#[tokio::test]
async fn after_a_failure_the_rest_of_a_set_is_not_tried() {
    let fixture = Fixture::new(Incident::Playbook);
    fixture.simulator.fault(Fault::status(403).on("patch").at("/kustomizations/bazarr"));
    let results = fixture.write(set(&["plex", "bazarr", "radarr"])).await.unwrap();
    assert_eq!(outcome_names(&results), ["suspended", "failed", "not tried"], "{results:?}");
    assert!(fixture.kustomization("media", "radarr")["spec"].get("suspend").is_none());
}

#[tokio::test]
async fn a_change_within_a_set_is_a_conflict_from_there_on() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = write(set(&["plex", "bazarr", "radarr"]));
    let previous = fixture.observe(&call).await;
    change(&fixture, "bazarr", |object| object["metadata"]["labels"]["seen"] = "now".into());
    let ApplyOutcome::Conflict { completed: Some(completed), remaining, .. } =
        fixture.apply(&call, &previous).await
    else {
        panic!("expected a conflict")
    };
    assert_eq!(outcome_names(&take::<Suspend>(completed)), ["suspended"]);
    assert_eq!(remaining, write(set(&["bazarr", "radarr"])));
}

#[tokio::test]
async fn a_parent_earlier_in_the_same_set_counts_as_suspended() {
    let fixture = Fixture::new(Incident::Playbook);
    change(&fixture, "plex", |object| {
        object["spec"]["suspend"] = false.into();
        object["metadata"]["managedFields"] = json!([{"manager": "kustomize-controller",
            "operation": "Apply", "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
    });
    let parent = app("flux-system", "cluster-apps");
    let wrong = Suspend { targets: vec![app("media", "plex"), parent.clone()], ..set(&[]) };
    assert!(matches!(fixture.write(wrong).await,
            Err(Error::Conflict(text)) if text.contains("cluster-apps")));
    let right = Suspend { targets: vec![parent, app("media", "plex")], ..set(&[]) };
    assert_eq!(outcome_names(&fixture.write(right).await.unwrap()), ["suspended", "suspended"]);
}

#[tokio::test]
async fn a_set_in_doubt_is_resolved_by_reading_and_invalidated() {
    // The number of requests that arrived before the process crashed.
    for arrived in 0..=3 {
        let fixture = Fixture::new(Incident::Playbook);
        let names = ["plex", "radarr", "bazarr"];
        let call = write(set(&names));
        let previous = fixture.observe(&call).await;
        if arrived > 0 {
            assert_eq!(
                outcome_names(&fixture.write(set(&names[..arrived])).await.unwrap()).len(),
                arrived
            );
        }
        let before = fixture.request_bodies("PATCH").len();
        let (completed, remaining) = match fixture.resolve(&call, &previous).await {
            ApplyOutcome::Done(answer) => (take::<Suspend>(answer.unwrap()), 0),
            ApplyOutcome::Conflict { completed, remaining, .. } => {
                let Write::Suspend(remaining) = remaining else { panic!("{remaining:?}") };
                (completed.map(take::<Suspend>).unwrap_or_default(), remaining.targets.len())
            }
        };
        assert_eq!((completed.len(), remaining), (arrived, 3 - arrived));
        // A note and its removal for the request that may be in flight; nothing for those never
        // sent.
        assert_eq!(fixture.request_bodies("PATCH").len() - before, if arrived < 3 { 2 } else { 0 });
        if arrived < 3 {
            let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
            assert_ne!(
                version(&fixture.kustomization("media", names[arrived])),
                version(&previous.objects[arrived])
            );
        }
    }
}

#[tokio::test]
async fn only_some_fields_of_a_flux_object_are_saved() {
    let fixture = Fixture::new(Incident::Playbook);
    change(&fixture, "plex", |object| {
        object["spec"]["interval"] = "7m".into();
        object["spec"]["postBuild"] = json!({"substitute": {"PASSWORD": "canary-one"}});
        object["spec"]["values"] = json!({"token": "canary-two"});
        object["metadata"]["annotations"] = json!({
            "kubectl.kubernetes.io/last-applied-configuration": "canary-three",
            "note": "canary-four",
        });
        object["metadata"]["labels"] = json!({"tier": "by which grants select"});
    });
    let saved = serde_json::to_string(&fixture.observe(&write(suspend("plex"))).await).unwrap();
    assert!(
        saved.contains("7m")
            && saved.contains("by which grants select")
            && !saved.contains("canary"),
        "{saved}"
    );
}
