//! `delete-replicationsources`: only what was chosen, and each in its own end.

use crate::fixture::{Stage, VOLSYNC, answered, take, write};
use salve_core::effect::delete_replicationsources::{
    CreationOutcome, Delete, DeletionOutcome, DeletionTarget, Manifest, Pacing, Recreate,
};
use salve_core::effect::query_replicationsources::ListSources;
use salve_core::effect::{Answer, Write};
use salve_run::{ApplyOutcome, Prepared};
use salve_simulator::{Fault, Incident};

async fn frozen(stage: &Stage, names: &[&str]) -> Delete {
    let namespaces = vec!["media".into(), "security".into()];
    let all = stage.look(ListSources { namespaces }).await.unwrap();
    let one = |name: &&str| {
        all.iter().find(|source| source.object.name == **name).map(|s| DeletionTarget {
            object: s.object.clone(),
            uid: s.uid.clone(),
            digest: s.digest.clone(),
            reason: String::new(),
        })
    };
    Delete {
        set: names.iter().map(|name| one(name).expect("it is there")).collect(),
        pacing: Pacing { batch_size: 2, interval_ms: 1000 },
    }
}

fn ends(
    answer: &[salve_core::effect::delete_replicationsources::Deletion],
) -> Vec<(&str, DeletionOutcome)> {
    answer.iter().map(|deletion| (deletion.object.name.as_str(), deletion.outcome)).collect()
}

fn is_there(stage: &Stage, name: &str) -> bool {
    stage.simulator.object(VOLSYNC, "replicationsources", "media", name).is_some()
}

#[tokio::test]
async fn a_set_is_deleted_by_uid_with_its_manifests_saved() {
    let stage = Stage::new(Incident::Playbook);
    let ask = frozen(&stage, &["sonarr", "crowdsec", "old-lidarr"]).await;
    let observed = stage.ready(&write(ask.clone())).await;
    assert_eq!(observed.objects.len(), 3);
    assert!(
        observed.objects.iter().all(|object| object["spec"].is_object()
            && object["metadata"].get("managedFields").is_none())
    );
    let answer = answered::<Delete>(stage.act(&write(ask), &observed).await);
    assert_eq!(
        ends(&answer),
        [
            ("sonarr", DeletionOutcome::Deleted),
            ("crowdsec", DeletionOutcome::Deleted),
            ("old-lidarr", DeletionOutcome::Deleted)
        ]
    );
    let written = stage.written("DELETE");
    assert_eq!(written.len(), 3);
    for (body, object) in written.iter().zip(&observed.objects) {
        assert_eq!(
            (&body["preconditions"]["uid"], &body["preconditions"]["resourceVersion"]),
            (&object["metadata"]["uid"], &object["metadata"]["resourceVersion"])
        );
        assert_eq!(body["propagationPolicy"], "Background");
    }
}

#[tokio::test]
async fn a_namesake_and_a_changed_one_are_left_alone() {
    let stage = Stage::new(Incident::Playbook);
    let ask = frozen(&stage, &["sonarr", "old-lidarr", "crowdsec"]).await;
    let observed = stage.ready(&write(ask.clone())).await;
    // Between the choice and the deletion: one is made anew, one gets another spec, one goes.
    let mut anew =
        stage.simulator.object(VOLSYNC, "replicationsources", "media", "sonarr").unwrap();
    stage.simulator.remove(VOLSYNC, "replicationsources", "media", "sonarr");
    anew["metadata"]
        .as_object_mut()
        .unwrap()
        .retain(|key, _| ["name", "namespace", "labels"].contains(&key.as_str()));
    assert!(stage.simulator.insert(anew).unwrap());
    stage.simulator.edit(VOLSYNC, "replicationsources", "media", "old-lidarr", |object| {
        object["spec"]["paused"] = true.into()
    });
    stage.simulator.remove(VOLSYNC, "replicationsources", "security", "crowdsec");
    let answer = answered::<Delete>(stage.act(&write(ask.clone()), &observed).await);
    assert_eq!(
        ends(&answer),
        [
            ("sonarr", DeletionOutcome::Replaced),
            ("old-lidarr", DeletionOutcome::Changed),
            ("crowdsec", DeletionOutcome::AlreadyGone)
        ]
    );
    assert!(is_there(&stage, "sonarr") && is_there(&stage, "old-lidarr"));
    match stage.prepare(&write(ask), None).await.unwrap() {
        Prepared::AlreadyDone(answer) => {
            assert_eq!(
                ends(&take::<Delete>(answer)),
                [
                    ("sonarr", DeletionOutcome::Replaced),
                    ("old-lidarr", DeletionOutcome::Changed),
                    ("crowdsec", DeletionOutcome::AlreadyGone)
                ]
            )
        }
        Prepared::Ready(observed) => panic!("{observed:?}"),
    }
}

#[tokio::test]
async fn what_was_settled_before_is_answered_in_the_sets_order() {
    let stage = Stage::new(Incident::Playbook);
    let ask = frozen(&stage, &["crowdsec", "sonarr"]).await;
    stage.simulator.remove(VOLSYNC, "replicationsources", "security", "crowdsec");
    assert_eq!(
        ends(&stage.write(ask).await.unwrap()),
        [("crowdsec", DeletionOutcome::AlreadyGone), ("sonarr", DeletionOutcome::Deleted)]
    );
}

#[tokio::test]
async fn a_status_that_moved_is_tried_again_and_the_rest_is_answered() {
    let stage = Stage::new(Incident::Playbook);
    let ask = frozen(&stage, &["sonarr", "old-lidarr"]).await;
    let observed = stage.ready(&write(ask.clone())).await;
    stage.simulator.edit(VOLSYNC, "replicationsources", "media", "sonarr", |object| {
        object["status"]["nextSyncTime"] = "2026-08-20T12:00:00Z".into()
    });
    let ApplyOutcome::Conflict {
        completed: Some(Answer::Delete(completed)),
        rest: Write::Delete(rest),
        ..
    } = stage.act(&write(ask), &observed).await
    else {
        panic!("no conflict")
    };
    assert_eq!(ends(&completed), [("old-lidarr", DeletionOutcome::Deleted)]);
    assert_eq!(rest.set.len(), 1);
    assert_eq!(ends(&stage.write(rest).await.unwrap()), [("sonarr", DeletionOutcome::Deleted)]);
}

#[tokio::test]
async fn a_deletion_whose_answer_got_lost_is_settled_by_reading() {
    for fault in [Fault::status(504), Fault::dropped(), Fault::garbage()] {
        let stage = Stage::new(Incident::Playbook);
        let ask = frozen(&stage, &["sonarr"]).await;
        let observed = stage.ready(&write(ask.clone())).await;
        stage.simulator.fault(fault.clone().on("delete").first(1).after_applying());
        let answer = answered::<Delete>(stage.act(&write(ask), &observed).await);
        assert_eq!(ends(&answer), [("sonarr", DeletionOutcome::Deleted)]);
        assert_eq!(stage.written("DELETE").len(), 1, "it was not sent again");

        let stage = Stage::new(Incident::Playbook);
        let ask = frozen(&stage, &["sonarr"]).await;
        let observed = stage.ready(&write(ask.clone())).await;
        stage.simulator.fault(fault.on("delete").first(1));
        assert!(matches!(
            stage.act(&write(ask.clone()), &observed).await,
            ApplyOutcome::Conflict { completed: None, .. }
        ));
        assert_eq!(ends(&stage.write(ask).await.unwrap()), [("sonarr", DeletionOutcome::Deleted)]);
    }
}

/// Whoever undoes the run has to know that it may be gone.
#[tokio::test]
async fn a_deletion_of_which_nothing_more_is_heard_is_unknown() {
    let stage = Stage::new(Incident::Playbook);
    let ask = frozen(&stage, &["sonarr"]).await;
    let observed = stage.ready(&write(ask.clone())).await;
    stage.simulator.fault(Fault::dropped().on("delete").after_applying());
    stage.simulator.fault(Fault::dropped().on("get").at("/replicationsources/"));
    let answer = answered::<Delete>(stage.act(&write(ask), &observed).await);
    assert_eq!(ends(&answer), [("sonarr", DeletionOutcome::Unknown)]);
    assert!(!is_there(&stage, "sonarr"));
}

#[tokio::test]
async fn what_rbac_refuses_is_refused_and_the_others_go_on() {
    let stage = Stage::new(Incident::Playbook);
    let ask = frozen(&stage, &["crowdsec", "sonarr"]).await;
    stage.simulator.fault(Fault::status(403).on("delete").at("/namespaces/security/"));
    let answer = stage.write(ask).await.unwrap();
    assert_eq!(
        ends(&answer),
        [("crowdsec", DeletionOutcome::Rejected), ("sonarr", DeletionOutcome::Deleted)]
    );
    assert!(answer[0].message.as_ref().unwrap().contains("RBAC"));
}

#[tokio::test]
async fn what_was_deleted_is_made_anew_and_never_over_a_namesake() {
    let stage = Stage::new(Incident::Playbook);
    let ask = frozen(&stage, &["sonarr", "old-lidarr"]).await;
    let observed = stage.ready(&write(ask.clone())).await;
    stage.write(ask.clone()).await.unwrap();
    let manifest = |object: &serde_json::Value| {
        let mut object = object.clone();
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .retain(|key, _| ["name", "namespace", "labels"].contains(&key.as_str()));
        object.as_object_mut().unwrap().remove("status");
        object
    };
    let set = ask
        .set
        .iter()
        .zip(&observed.objects)
        .map(|(one, object)| Manifest { object: one.object.clone(), manifest: manifest(object) })
        .collect();
    let mut other = manifest(&observed.objects[0]);
    other["spec"]["paused"] = true.into();
    assert!(stage.simulator.insert(other.clone()).unwrap());
    let made: Vec<_> = stage.write(Recreate { set }).await.unwrap();
    let end =
        |name: &str| made.iter().find(|made| made.object.name == name).map(|made| made.outcome);
    assert_eq!(
        (end("old-lidarr"), end("sonarr")),
        (Some(CreationOutcome::Created), Some(CreationOutcome::Occupied))
    );
    assert!(is_there(&stage, "old-lidarr"));
    let namesake =
        stage.simulator.object(VOLSYNC, "replicationsources", "media", "sonarr").unwrap();
    assert_eq!(namesake["spec"], other["spec"], "it stands there as it stood");
    // All of them taken: nothing is sent.
    let all = Recreate {
        set: ask
            .set
            .iter()
            .zip(&observed.objects)
            .map(|(one, object)| Manifest {
                object: one.object.clone(),
                manifest: manifest(object),
            })
            .collect(),
    };
    let Prepared::AlreadyDone(answer) = stage.prepare(&write(all), None).await.unwrap() else {
        panic!("there is nothing to make")
    };
    assert!(take::<Recreate>(answer).iter().all(|made| made.outcome == CreationOutcome::Occupied
        && made.message.as_ref().unwrap().contains("bears its name")));
}

/// Its answer got lost: what stands there is ours, and no namesake.
#[tokio::test]
async fn what_was_made_without_an_answer_is_made() {
    for unread in [0, 4] {
        let stage = Stage::new(Incident::Playbook);
        let ask = frozen(&stage, &["old-lidarr"]).await;
        let mut manifest = stage.ready(&write(ask.clone())).await.objects[0].clone();
        manifest["metadata"]
            .as_object_mut()
            .unwrap()
            .retain(|key, _| ["name", "namespace", "labels"].contains(&key.as_str()));
        manifest.as_object_mut().unwrap().remove("status");
        stage.write(ask.clone()).await.unwrap();
        let set = vec![Manifest { object: ask.set[0].object.clone(), manifest }];
        let observed = stage.ready(&write(Recreate { set: set.clone() })).await;
        stage.simulator.fault(Fault::dropped().on("create").first(1).after_applying());
        stage.simulator.fault(Fault::dropped().on("get").at("/replicationsources/").first(unread));
        // It is read at once; where that fails too, before the next attempt.
        match stage.act(&write(Recreate { set }), &observed).await {
            ApplyOutcome::Done(answer) if unread == 0 => {
                assert_eq!(take::<Recreate>(answer.unwrap())[0].outcome, CreationOutcome::Created)
            }
            ApplyOutcome::Conflict { rest, .. } if unread > 0 => {
                let Prepared::AlreadyDone(answer) =
                    stage.prepare(&rest, Some(&observed)).await.unwrap()
                else {
                    panic!("it is there")
                };
                assert_eq!(take::<Recreate>(answer)[0].outcome, CreationOutcome::Created);
                // Whoever has not asked for it has not made it.
                let Prepared::AlreadyDone(answer) = stage.prepare(&rest, None).await.unwrap()
                else {
                    panic!("it is there")
                };
                assert_eq!(take::<Recreate>(answer)[0].outcome, CreationOutcome::Occupied);
            }
            other => panic!("{unread}: {other:?}"),
        }
    }
}
