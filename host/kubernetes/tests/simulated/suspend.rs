//! `suspend-flux` and `reconcile-flux`: given back exactly, whatever got lost on the way.

use crate::fixture::{KUSTOMIZE, RUN, Stage, answered, app, one, take, write};
use salve_core::effect::Write;
use salve_core::effect::host::FindLeftovers;
use salve_core::effect::query_flux;
use salve_core::effect::reconcile_flux::Reconcile;
use salve_core::effect::suspend_flux::{self, PreviousSuspend, Resume, Suspend, SuspendOutcome};
use salve_core::outcome::Error;
use salve_run::ApplyOutcome;
use salve_simulator::{Fault, Incident};
use serde_json::{Value, json};

fn suspend(name: &str) -> Suspend {
    Suspend { targets: vec![app("media", name)], reason: "mending".into(), drain_seconds: 30 }
}

fn change(stage: &Stage, name: &str, change: impl FnOnce(&mut Value)) {
    assert!(stage.simulator.edit(KUSTOMIZE, "kustomizations", "media", name, change));
}

#[tokio::test]
async fn three_states_come_back_as_they_were() {
    for (before, previous) in
        [(Value::Null, PreviousSuspend::Absent), (json!(false), PreviousSuspend::False)]
    {
        let stage = Stage::new(Incident::Playbook);
        change(&stage, "plex", |object| {
            if !before.is_null() {
                object["spec"]["suspend"] = before.clone();
            }
        });
        let original = stage.kustomization("media", "plex");
        let suspended = stage.suspend(suspend("plex")).await.unwrap();
        assert_eq!(
            (suspended.previous, suspended.uid.as_str()),
            (previous, original["metadata"]["uid"].as_str().unwrap())
        );
        let held = stage.kustomization("media", "plex");
        assert_eq!(
            (&held["spec"]["suspend"], &held["metadata"]["annotations"][suspend_flux::RUN]),
            (&json!(true), &json!(RUN))
        );
        let found = stage.look(FindLeftovers {}).await.unwrap();
        assert_eq!((found.len(), found[0].run.as_str(), found[0].previous), (1, RUN, previous));
        let resumed = stage
            .write(Resume { target: app("media", "plex"), uid: suspended.uid, previous })
            .await
            .unwrap();
        assert_eq!((resumed.restored, resumed.taken_over), (previous, None));
        let after = stage.kustomization("media", "plex");
        assert_eq!(
            (
                after["spec"].clone(),
                after["metadata"].get("annotations").filter(|a| *a != &json!({}))
            ),
            (original["spec"].clone(), original["metadata"].get("annotations"))
        );
        assert!(stage.look(FindLeftovers {}).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_a_person_suspended_is_left_to_them() {
    let stage = Stage::new(Incident::Playbook);
    let error = stage.suspend(suspend("lidarr")).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict(text) if text.contains("by flux")), "{error}");
    let error = stage
        .write(Reconcile { target: app("media", "lidarr"), force: false, wait_seconds: 10 })
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Conflict(text) if text.contains("suspended")), "{error}");
    assert!(stage.simulator.mutations().is_empty());
}

#[tokio::test]
async fn what_another_run_marked_is_refused_by_its_name() {
    let stage = Stage::new(Incident::Playbook);
    change(&stage, "plex", |object| {
        object["spec"]["suspend"] = true.into();
        object["metadata"]["annotations"] = json!({suspend_flux::RUN: "run-2"});
    });
    let error = stage.suspend(suspend("plex")).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict(text) if text.contains("run-2")), "{error}");
}

#[tokio::test]
async fn a_parent_is_suspended_first_where_it_would_revert() {
    let stage = Stage::new(Incident::Playbook);
    change(&stage, "plex", |object| {
        object["spec"]["suspend"] = false.into();
        object["metadata"]["managedFields"] = json!([{"manager": "kustomize-controller", "operation": "Apply", "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
    });
    assert!(
        stage.look(query_flux::Get { target: app("media", "plex") }).await.unwrap().parent_reverts
    );
    let error = stage.suspend(suspend("plex")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Conflict(text) if text.contains("flux-system/cluster-apps")),
        "{error}"
    );
    stage
        .suspend(Suspend {
            targets: vec![app("flux-system", "cluster-apps")],
            reason: String::new(),
            drain_seconds: 30,
        })
        .await
        .unwrap();
    assert!(
        !stage.look(query_flux::Get { target: app("media", "plex") }).await.unwrap().parent_reverts
    );
    stage.suspend(suspend("plex")).await.unwrap();
}

#[tokio::test]
async fn a_change_in_between_is_a_conflict_and_applies_nothing() {
    let stage = Stage::new(Incident::Playbook);
    let ask = write(suspend("plex"));
    let previous = stage.ready(&ask).await;
    change(&stage, "plex", |object| object["metadata"]["labels"]["seen"] = "now".into());
    assert!(matches!(
        stage.act(&ask, &previous).await,
        ApplyOutcome::Conflict { completed: None, .. }
    ));
    assert!(stage.kustomization("media", "plex")["spec"].get("suspend").is_none());
    stage.suspend(suspend("plex")).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_got_lost_is_settled_by_reading() {
    for fault in [Fault::status(504), Fault::dropped(), Fault::garbage()] {
        let stage = Stage::new(Incident::Playbook);
        let ask = write(suspend("plex"));
        let previous = stage.ready(&ask).await;
        stage.simulator.fault(fault.on("patch").first(1).after_applying());
        assert_eq!(
            one(answered::<Suspend>(stage.act(&ask, &previous).await)).unwrap().previous,
            PreviousSuspend::Absent
        );
        assert_eq!(stage.written("PATCH").len(), 1);
    }
}

#[tokio::test]
async fn a_suspend_that_got_lost_can_no_longer_arrive() {
    for fault in [Fault::status(504), Fault::status(500), Fault::dropped()] {
        let stage = Stage::new(Incident::Playbook);
        let ask = write(suspend("plex"));
        let previous = stage.ready(&ask).await;
        stage.simulator.fault(fault.on("patch").first(1));
        assert!(matches!(stage.act(&ask, &previous).await, ApplyOutcome::Conflict { .. }));
        let now = stage.kustomization("media", "plex");
        assert!(now["spec"].get("suspend").is_none());
        assert_ne!(
            now["metadata"]["resourceVersion"], previous.objects[0]["metadata"]["resourceVersion"],
            "a late twin would find another version"
        );
        let annotations = now["metadata"].get("annotations").and_then(Value::as_object);
        assert!(
            annotations.is_none_or(|all| all.keys().all(|key| !key.starts_with("salve.dev/"))),
            "{annotations:?}"
        );
        stage.suspend(suspend("plex")).await.unwrap();
    }
}

#[tokio::test]
async fn a_suspend_in_doubt_is_made_impossible_by_its_release() {
    let stage = Stage::new(Incident::Playbook);
    let ask = write(suspend("plex"));
    let previous = stage.ready(&ask).await;
    stage.simulator.fault(Fault::status(504).on("patch").first(1));
    stage.simulator.fault(Fault::dropped().on("get").at("/kustomizations/plex").first(4));
    let hold = answered::<Suspend>(stage.act(&ask, &previous).await).remove(0);
    assert!(
        matches!(&hold.outcome, SuspendOutcome::Failed { error, doubtful: true } if error.text().contains("may yet be")),
        "{hold:?}"
    );
    let uid = previous.objects[0]["metadata"]["uid"].as_str().unwrap().to_owned();
    let resumed = stage
        .touch_after(
            Resume { target: app("media", "plex"), uid, previous: PreviousSuspend::Absent },
            Some(&previous),
        )
        .await
        .unwrap();
    assert_eq!((resumed.restored, resumed.taken_over), (PreviousSuspend::Absent, None));
    let now = stage.kustomization("media", "plex");
    assert_ne!(
        now["metadata"]["resourceVersion"],
        previous.objects[0]["metadata"]["resourceVersion"]
    );
    assert!(stage.look(FindLeftovers {}).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_suspend_that_was_abandoned_half_way_is_made_impossible_too() {
    let stage = Stage::new(Incident::Playbook);
    let ask = write(suspend("plex"));
    let previous = stage.ready(&ask).await;
    // The first poll hands the request over; nobody waits for what comes of it.
    assert!(futures::poll!(Box::pin(stage.act(&ask, &previous))).is_pending());
    let uid = previous.objects[0]["metadata"]["uid"].as_str().unwrap().to_owned();
    stage
        .touch_after(
            Resume { target: app("media", "plex"), uid, previous: PreviousSuspend::Absent },
            Some(&previous),
        )
        .await
        .unwrap();
    assert_ne!(
        stage.kustomization("media", "plex")["metadata"]["resourceVersion"],
        previous.objects[0]["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn a_release_whose_answer_got_lost_is_settled_too() {
    for applied in [true, false] {
        let stage = Stage::new(Incident::Playbook);
        let suspended = stage.suspend(suspend("plex")).await.unwrap();
        let fault = Fault::status(504).on("patch").first(1);
        stage.simulator.fault(if applied { fault.after_applying() } else { fault });
        let resumed = stage
            .write(Resume {
                target: app("media", "plex"),
                uid: suspended.uid,
                previous: PreviousSuspend::Absent,
            })
            .await
            .unwrap();
        assert_eq!((resumed.restored, resumed.taken_over), (PreviousSuspend::Absent, None));
        assert!(stage.kustomization("media", "plex")["spec"].get("suspend").is_none());
    }
}

#[tokio::test]
async fn what_somebody_took_over_is_left_as_they_want_it() {
    let stage = Stage::new(Incident::Playbook);
    let suspended = stage.suspend(suspend("plex")).await.unwrap();
    change(&stage, "plex", |object| object["spec"]["suspend"] = false.into());
    let resume = Resume {
        target: app("media", "plex"),
        uid: suspended.uid,
        previous: PreviousSuspend::Absent,
    };
    let resumed = stage.write(resume.clone()).await.unwrap();
    assert!(
        resumed.restored == PreviousSuspend::False && resumed.taken_over.is_some(),
        "{resumed:?}"
    );
    assert_eq!(stage.kustomization("media", "plex")["spec"]["suspend"], false);
    assert!(stage.look(FindLeftovers {}).await.unwrap().is_empty(), "the mark is gone");
    change(&stage, "plex", |object| object["metadata"]["finalizers"] = json!([]));
    stage.simulator.remove(KUSTOMIZE, "kustomizations", "media", "plex");
    let resumed = stage.write(resume).await.unwrap();
    assert_eq!(resumed.taken_over.as_deref(), Some("it was deleted"));
}

#[tokio::test]
async fn a_drain_that_does_not_end_says_so_and_stays_releasable() {
    let stage = Stage::new(Incident::Playbook);
    change(&stage, "plex", |object| {
        let reconciling = json!({"type": "Reconciling", "status": "True", "reason": "Progressing", "message": "", "lastTransitionTime": "2026-08-20T10:00:00Z"});
        object["status"]["conditions"].as_array_mut().unwrap().push(reconciling);
    });
    let ask = write(Suspend { drain_seconds: 10, ..suspend("plex") });
    let previous = stage.ready(&ask).await;
    let error = one(answered::<Suspend>(stage.act(&ask, &previous).await)).unwrap_err();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("10 s")), "{error}");
    let uid = previous.objects[0]["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!(
        stage
            .write(Resume { target: app("media", "plex"), uid, previous: PreviousSuspend::Absent })
            .await
            .unwrap()
            .taken_over,
        None
    );
}

#[tokio::test]
async fn a_reconcile_is_asked_for_and_answered() {
    let stage = Stage::new(Incident::Playbook);
    let done = stage
        .write(Reconcile { target: app("media", "radarr"), force: false, wait_seconds: 120 })
        .await
        .unwrap();
    assert!(done.handled && done.ready, "{done:?}");
    stage.simulator.fault(Fault::dropped().on("patch").first(1).after_applying());
    let done = stage
        .write(Reconcile { target: app("media", "radarr"), force: false, wait_seconds: 120 })
        .await
        .unwrap();
    assert!(done.handled && done.ready, "{done:?}");
    assert_eq!(stage.written("PATCH").len(), 2, "none was sent twice");
}

fn set(names: &[&str]) -> Suspend {
    Suspend {
        targets: names.iter().map(|name| app("media", name)).collect(),
        reason: "mending".into(),
        drain_seconds: 30,
    }
}

fn ends(holds: &[suspend_flux::SuspendResult]) -> Vec<&'static str> {
    let word = |hold: &suspend_flux::SuspendResult| match &hold.outcome {
        SuspendOutcome::Suspended(_) => "suspended",
        SuspendOutcome::AlreadySuspended(_) => "left alone",
        SuspendOutcome::Failed { .. } => "failed",
        SuspendOutcome::NotTried => "untried",
    };
    holds.iter().map(word).collect()
}

#[tokio::test]
async fn a_set_is_answered_one_by_one_and_what_a_person_holds_stays_theirs() {
    let stage = Stage::new(Incident::Playbook);
    let holds = stage.write(set(&["plex", "lidarr", "bazarr"])).await.unwrap();
    assert_eq!(ends(&holds), ["suspended", "left alone", "suspended"], "{holds:?}");
    assert_eq!(stage.written("PATCH").len(), 2);
}

#[tokio::test]
async fn after_one_that_fails_none_of_a_set_is_tried() {
    let stage = Stage::new(Incident::Playbook);
    stage.simulator.fault(Fault::status(403).on("patch").at("/kustomizations/bazarr"));
    let holds = stage.write(set(&["plex", "bazarr", "radarr"])).await.unwrap();
    assert_eq!(ends(&holds), ["suspended", "failed", "untried"], "{holds:?}");
    assert!(stage.kustomization("media", "radarr")["spec"].get("suspend").is_none());
}

#[tokio::test]
async fn a_set_that_changed_in_the_middle_is_prepared_anew_from_there() {
    let stage = Stage::new(Incident::Playbook);
    let ask = write(set(&["plex", "bazarr", "radarr"]));
    let previous = stage.ready(&ask).await;
    change(&stage, "bazarr", |object| object["metadata"]["labels"]["seen"] = "now".into());
    let ApplyOutcome::Conflict { completed: Some(completed), rest, .. } =
        stage.act(&ask, &previous).await
    else {
        panic!("it did not notice")
    };
    assert_eq!(ends(&take::<Suspend>(completed)), ["suspended"]);
    assert_eq!(rest, write(set(&["bazarr", "radarr"])));
}

#[tokio::test]
async fn a_parent_in_the_same_set_goes_first_and_is_enough() {
    let stage = Stage::new(Incident::Playbook);
    change(&stage, "plex", |object| {
        object["spec"]["suspend"] = false.into();
        object["metadata"]["managedFields"] = json!([{"manager": "kustomize-controller", "operation": "Apply", "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
    });
    let parent = app("flux-system", "cluster-apps");
    let wrong = Suspend { targets: vec![app("media", "plex"), parent.clone()], ..set(&[]) };
    assert!(
        matches!(stage.write(wrong).await, Err(Error::Conflict(text)) if text.contains("cluster-apps"))
    );
    let right = Suspend { targets: vec![parent, app("media", "plex")], ..set(&[]) };
    assert_eq!(ends(&stage.write(right).await.unwrap()), ["suspended", "suspended"]);
}

#[tokio::test]
async fn a_set_whose_sender_died_is_settled_by_reading_and_cannot_go_on_by_itself() {
    // How many of three had arrived when the sender died.
    for arrived in 0..=3 {
        let stage = Stage::new(Incident::Playbook);
        let names = ["plex", "radarr", "bazarr"];
        let ask = write(set(&names));
        let previous = stage.ready(&ask).await;
        if arrived > 0 {
            assert_eq!(ends(&stage.write(set(&names[..arrived])).await.unwrap()).len(), arrived);
        }
        let before = stage.written("PATCH").len();
        let (held, rest) = match stage.settle(&ask, &previous).await {
            ApplyOutcome::Done(answer) => (take::<Suspend>(answer.unwrap()), 0),
            ApplyOutcome::Conflict { completed, rest, .. } => {
                let Write::Suspend(rest) = rest else { panic!("{rest:?}") };
                (completed.map(take::<Suspend>).unwrap_or_default(), rest.targets.len())
            }
        };
        assert_eq!((held.len(), rest), (arrived, 3 - arrived));
        // A word and its end for the one that might have been under way; nothing for those that were never sent.
        assert_eq!(stage.written("PATCH").len() - before, if arrived < 3 { 2 } else { 0 });
        if arrived < 3 {
            let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
            assert_ne!(
                version(&stage.kustomization("media", names[arrived])),
                version(&previous.objects[arrived])
            );
        }
    }
}

#[tokio::test]
async fn of_a_flux_object_only_an_outline_is_kept() {
    let stage = Stage::new(Incident::Playbook);
    change(&stage, "plex", |object| {
        object["spec"]["interval"] = "7m".into();
        object["spec"]["postBuild"] = json!({"substitute": {"PASSWORD": "canary-one"}});
        object["spec"]["values"] = json!({"token": "canary-two"});
        object["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": "canary-three", "note": "canary-four"});
        object["metadata"]["labels"] = json!({"tier": "by which grants select"});
    });
    let kept = serde_json::to_string(&stage.ready(&write(suspend("plex"))).await).unwrap();
    assert!(
        kept.contains("7m") && kept.contains("by which grants select") && !kept.contains("canary"),
        "{kept}"
    );
}
