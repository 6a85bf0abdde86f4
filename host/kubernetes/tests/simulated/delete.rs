//! `delete-replicationsources`: only unchanged chosen objects are deleted, each with its own
//! outcome.

use crate::fixture::{Fixture, VOLSYNC, answered, take, write};
use salve_core::capability::delete_replicationsources::{
    CreationOutcome, Delete, DeletionOutcome, DeletionTarget, Manifest, Pacing, Recreate,
};
use salve_core::capability::query_replicationsources::ListSources;
use salve_core::capability::{Answer, Write};
use salve_run::{ApplyOutcome, Current};
use salve_simulator::{Fault, Incident};

/// Builds a deletion of these ReplicationSources as they are now.
async fn select(fixture: &Fixture, names: &[&str]) -> Delete {
    let namespaces = vec!["media".into(), "security".into()];
    let all = fixture.read(ListSources { namespaces }).await.unwrap();
    let target = |name: &&str| {
        all.iter().find(|source| source.object.name == **name).map(|s| DeletionTarget {
            object: s.object.clone(),
            uid: s.uid.clone(),
            digest: s.digest.clone(),
            reason: String::new(),
        })
    };
    Delete {
        set: names.iter().map(|name| target(name).expect("the source exists")).collect(),
        pacing: Pacing { batch_size: 2, interval_ms: 1000 },
    }
}

fn outcomes(
    answer: &[salve_core::capability::delete_replicationsources::Deletion],
) -> Vec<(&str, DeletionOutcome)> {
    answer.iter().map(|deletion| (deletion.object.name.as_str(), deletion.outcome)).collect()
}

fn exists(fixture: &Fixture, name: &str) -> bool {
    fixture.simulator.object(VOLSYNC, "replicationsources", "media", name).is_some()
}

#[tokio::test]
async fn a_deletion_is_sent_with_the_uid_as_precondition_and_saves_the_manifest() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = select(&fixture, &["sonarr", "crowdsec", "old-lidarr"]).await;
    let observed = fixture.observe(&write(call.clone())).await;
    assert_eq!(observed.objects.len(), 3);
    assert!(
        observed.objects.iter().all(|object| object["spec"].is_object()
            && object["metadata"].get("managedFields").is_none())
    );
    let answer = answered::<Delete>(fixture.apply(&write(call), &observed).await);
    assert_eq!(
        outcomes(&answer),
        [
            ("sonarr", DeletionOutcome::Deleted),
            ("crowdsec", DeletionOutcome::Deleted),
            ("old-lidarr", DeletionOutcome::Deleted)
        ]
    );
    let request_bodies = fixture.request_bodies("DELETE");
    assert_eq!(request_bodies.len(), 3);
    for (body, object) in request_bodies.iter().zip(&observed.objects) {
        assert_eq!(
            (&body["preconditions"]["uid"], &body["preconditions"]["resourceVersion"]),
            (&object["metadata"]["uid"], &object["metadata"]["resourceVersion"])
        );
        assert_eq!(body["propagationPolicy"], "Background");
    }
}

#[tokio::test]
async fn a_saved_manifest_has_no_status() {
    let fixture = Fixture::new(Incident::Playbook);
    fixture.simulator.edit(VOLSYNC, "replicationsources", "media", "sonarr", |object| {
        object["status"]["latestMoverStatus"] =
            serde_json::json!({"result": "Failed", "logs": "Fatal: unable to open canary"});
    });
    let call = write(select(&fixture, &["sonarr", "old-lidarr"]).await);
    for object in fixture.observe(&call).await.objects {
        assert!(object.get("status").is_none() && object["spec"].is_object(), "{object}");
        assert!(!object.to_string().contains("canary"), "{object}");
    }
}

#[tokio::test]
async fn replaced_and_changed_objects_are_not_deleted() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = select(&fixture, &["sonarr", "old-lidarr", "crowdsec"]).await;
    let observed = fixture.observe(&write(call.clone())).await;
    // Between choosing and deleting, one object is replaced, one is changed, and one is deleted.
    let mut replacement =
        fixture.simulator.object(VOLSYNC, "replicationsources", "media", "sonarr").unwrap();
    fixture.simulator.remove(VOLSYNC, "replicationsources", "media", "sonarr");
    replacement["metadata"]
        .as_object_mut()
        .unwrap()
        .retain(|key, _| ["name", "namespace", "labels"].contains(&key.as_str()));
    assert!(fixture.simulator.insert(replacement).unwrap());
    fixture.simulator.edit(VOLSYNC, "replicationsources", "media", "old-lidarr", |object| {
        object["spec"]["paused"] = true.into()
    });
    fixture.simulator.remove(VOLSYNC, "replicationsources", "security", "crowdsec");
    let answer = answered::<Delete>(fixture.apply(&write(call.clone()), &observed).await);
    assert_eq!(
        outcomes(&answer),
        [
            ("sonarr", DeletionOutcome::Replaced),
            ("old-lidarr", DeletionOutcome::Changed),
            ("crowdsec", DeletionOutcome::AlreadyGone)
        ]
    );
    assert!(exists(&fixture, "sonarr") && exists(&fixture, "old-lidarr"));
    match fixture.read_current(&write(call), None).await.unwrap() {
        Current::AlreadyDone(answer) => {
            assert_eq!(
                outcomes(&take::<Delete>(answer)),
                [
                    ("sonarr", DeletionOutcome::Replaced),
                    ("old-lidarr", DeletionOutcome::Changed),
                    ("crowdsec", DeletionOutcome::AlreadyGone)
                ]
            )
        }
        Current::Ready(observed) => panic!("{observed:?}"),
    }
}

#[tokio::test]
async fn objects_that_are_already_gone_are_reported_in_the_order_of_the_set() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = select(&fixture, &["crowdsec", "sonarr"]).await;
    fixture.simulator.remove(VOLSYNC, "replicationsources", "security", "crowdsec");
    assert_eq!(
        outcomes(&fixture.write(call).await.unwrap()),
        [("crowdsec", DeletionOutcome::AlreadyGone), ("sonarr", DeletionOutcome::Deleted)]
    );
}

#[tokio::test]
async fn an_object_whose_status_changed_is_retried_and_the_others_are_deleted() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = select(&fixture, &["sonarr", "old-lidarr"]).await;
    let observed = fixture.observe(&write(call.clone())).await;
    fixture.simulator.edit(VOLSYNC, "replicationsources", "media", "sonarr", |object| {
        object["status"]["nextSyncTime"] = "2026-08-20T12:00:00Z".into()
    });
    let ApplyOutcome::Conflict {
        completed: Some(Answer::Delete(completed)),
        remaining: Write::Delete(remaining),
        ..
    } = fixture.apply(&write(call), &observed).await
    else {
        panic!("expected a conflict")
    };
    assert_eq!(outcomes(&completed), [("old-lidarr", DeletionOutcome::Deleted)]);
    assert_eq!(remaining.set.len(), 1);
    assert_eq!(
        outcomes(&fixture.write(remaining).await.unwrap()),
        [("sonarr", DeletionOutcome::Deleted)]
    );
}

#[tokio::test]
async fn a_deletion_with_a_lost_response_is_resolved_by_reading() {
    for fault in [Fault::status(504), Fault::dropped(), Fault::garbage()] {
        let fixture = Fixture::new(Incident::Playbook);
        let call = select(&fixture, &["sonarr"]).await;
        let observed = fixture.observe(&write(call.clone())).await;
        fixture.simulator.fault(fault.clone().on("delete").first(1).after_applying());
        let answer = answered::<Delete>(fixture.apply(&write(call), &observed).await);
        assert_eq!(outcomes(&answer), [("sonarr", DeletionOutcome::Deleted)]);
        assert_eq!(fixture.request_bodies("DELETE").len(), 1, "it was not sent again");

        let fixture = Fixture::new(Incident::Playbook);
        let call = select(&fixture, &["sonarr"]).await;
        let observed = fixture.observe(&write(call.clone())).await;
        fixture.simulator.fault(fault.on("delete").first(1));
        assert!(matches!(
            fixture.apply(&write(call.clone()), &observed).await,
            ApplyOutcome::Conflict { completed: None, .. }
        ));
        assert_eq!(
            outcomes(&fixture.write(call).await.unwrap()),
            [("sonarr", DeletionOutcome::Deleted)]
        );
    }
}

/// The outcome must not be reported as rejected, because `undo` has to know that the object may be
/// gone.
#[tokio::test]
async fn a_deletion_that_cannot_be_resolved_is_unknown() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = select(&fixture, &["sonarr"]).await;
    let observed = fixture.observe(&write(call.clone())).await;
    fixture.simulator.fault(Fault::dropped().on("delete").after_applying());
    fixture.simulator.fault(Fault::dropped().on("get").at("/replicationsources/"));
    let answer = answered::<Delete>(fixture.apply(&write(call), &observed).await);
    assert_eq!(outcomes(&answer), [("sonarr", DeletionOutcome::Unknown)]);
    assert!(!exists(&fixture, "sonarr"));
}

#[tokio::test]
async fn an_object_rejected_by_rbac_does_not_stop_the_others() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = select(&fixture, &["crowdsec", "sonarr"]).await;
    fixture.simulator.fault(Fault::status(403).on("delete").at("/namespaces/security/"));
    let answer = fixture.write(call).await.unwrap();
    assert_eq!(
        outcomes(&answer),
        [("crowdsec", DeletionOutcome::Rejected), ("sonarr", DeletionOutcome::Deleted)]
    );
    assert!(answer[0].message.as_ref().unwrap().contains("RBAC"));
}

#[tokio::test]
async fn deleted_objects_are_recreated_and_existing_ones_are_not_overwritten() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = select(&fixture, &["sonarr", "old-lidarr"]).await;
    let observed = fixture.observe(&write(call.clone())).await;
    fixture.write(call.clone()).await.unwrap();
    let manifest = |object: &serde_json::Value| {
        let mut object = object.clone();
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .retain(|key, _| ["name", "namespace", "labels"].contains(&key.as_str()));
        object.as_object_mut().unwrap().remove("status");
        object
    };
    let set = call
        .set
        .iter()
        .zip(&observed.objects)
        .map(|(target, object)| Manifest {
            object: target.object.clone(),
            manifest: manifest(object),
        })
        .collect();
    let mut other = manifest(&observed.objects[0]);
    other["spec"]["paused"] = true.into();
    assert!(fixture.simulator.insert(other.clone()).unwrap());
    let creations: Vec<_> = fixture.write(Recreate { set }).await.unwrap();
    let outcome = |name: &str| {
        creations
            .iter()
            .find(|creation| creation.object.name == name)
            .map(|creation| creation.outcome)
    };
    assert_eq!(
        (outcome("old-lidarr"), outcome("sonarr")),
        (Some(CreationOutcome::Created), Some(CreationOutcome::Occupied))
    );
    assert!(exists(&fixture, "old-lidarr"));
    let existing =
        fixture.simulator.object(VOLSYNC, "replicationsources", "media", "sonarr").unwrap();
    assert_eq!(existing["spec"], other["spec"], "not overwritten");
    // If every object exists, nothing is sent.
    let all = Recreate {
        set: call
            .set
            .iter()
            .zip(&observed.objects)
            .map(|(target, object)| Manifest {
                object: target.object.clone(),
                manifest: manifest(object),
            })
            .collect(),
    };
    let Current::AlreadyDone(answer) = fixture.read_current(&write(all), None).await.unwrap()
    else {
        panic!("nothing to create")
    };
    assert!(take::<Recreate>(answer).iter().all(|creation| {
        creation.outcome == CreationOutcome::Occupied
            && creation.message.as_ref().unwrap().contains("already exists")
    }));
}

#[tokio::test]
async fn an_object_created_with_a_lost_response_counts_as_created() {
    for failed_reads in [0, 4] {
        let fixture = Fixture::new(Incident::Playbook);
        let call = select(&fixture, &["old-lidarr"]).await;
        let mut manifest = fixture.observe(&write(call.clone())).await.objects[0].clone();
        manifest["metadata"]
            .as_object_mut()
            .unwrap()
            .retain(|key, _| ["name", "namespace", "labels"].contains(&key.as_str()));
        manifest.as_object_mut().unwrap().remove("status");
        fixture.write(call.clone()).await.unwrap();
        let set = vec![Manifest { object: call.set[0].object.clone(), manifest }];
        let observed = fixture.observe(&write(Recreate { set: set.clone() })).await;
        fixture.simulator.fault(Fault::dropped().on("create").first(1).after_applying());
        fixture
            .simulator
            .fault(Fault::dropped().on("get").at("/replicationsources/").first(failed_reads));
        // The object is read at once or, if that fails too, before the next attempt.
        match fixture.apply(&write(Recreate { set }), &observed).await {
            ApplyOutcome::Done(answer) if failed_reads == 0 => {
                assert_eq!(take::<Recreate>(answer.unwrap())[0].outcome, CreationOutcome::Created)
            }
            ApplyOutcome::Conflict { remaining, .. } if failed_reads > 0 => {
                let Current::AlreadyDone(answer) =
                    fixture.read_current(&remaining, Some(&observed)).await.unwrap()
                else {
                    panic!("the object exists")
                };
                assert_eq!(take::<Recreate>(answer)[0].outcome, CreationOutcome::Created);
                // Without an earlier attempt, an existing object was not created by this run.
                let Current::AlreadyDone(answer) =
                    fixture.read_current(&remaining, None).await.unwrap()
                else {
                    panic!("the object exists")
                };
                assert_eq!(take::<Recreate>(answer)[0].outcome, CreationOutcome::Occupied);
            }
            other => panic!("{failed_reads}: {other:?}"),
        }
    }
}
