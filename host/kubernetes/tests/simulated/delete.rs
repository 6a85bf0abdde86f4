//! `delete-replicationsources`: only what was chosen, and each in its own end.

use crate::stage::{Stage, VOLSYNC, answered, take, touch};
use salve_core::effect::delete_replicationsources::{
    Delete, End, Frozen, MadeEnd, Manifest, Pace, Recreate,
};
use salve_core::effect::query_replicationsources::Sources;
use salve_core::effect::{Answer, Touch};
use salve_run::{Acted, Prepared};
use salve_simulator::{Fault, Incident};

async fn frozen(stage: &Stage, names: &[&str]) -> Delete {
    let namespaces = vec!["media".into(), "security".into()];
    let all = stage.look(Sources { namespaces }).await.unwrap();
    let one = |name: &&str| {
        all.iter().find(|source| source.object.name == **name).map(|s| Frozen {
            object: s.object.clone(),
            uid: s.uid.clone(),
            digest: s.digest.clone(),
            why: String::new(),
        })
    };
    Delete {
        set: names.iter().map(|name| one(name).expect("it is there")).collect(),
        pace: Pace { at_once: 2, pause: 1000 },
    }
}

fn ends(answer: &[salve_core::effect::delete_replicationsources::Deletion]) -> Vec<(&str, End)> {
    answer.iter().map(|deletion| (deletion.object.name.as_str(), deletion.end)).collect()
}

fn is_there(stage: &Stage, name: &str) -> bool {
    stage.simulator.object(VOLSYNC, "replicationsources", "media", name).is_some()
}

#[tokio::test]
async fn a_set_is_deleted_by_uid_with_its_manifests_saved() {
    let stage = Stage::new(Incident::Playbook);
    let ask = frozen(&stage, &["sonarr", "crowdsec", "old-lidarr"]).await;
    let prior = stage.ready(&touch(ask.clone())).await;
    assert_eq!(prior.objects.len(), 3);
    assert!(
        prior.objects.iter().all(|object| object["spec"].is_object()
            && object["metadata"].get("managedFields").is_none())
    );
    let answer = answered::<Delete>(stage.act(&touch(ask), &prior).await);
    assert_eq!(
        ends(&answer),
        [("sonarr", End::Deleted), ("crowdsec", End::Deleted), ("old-lidarr", End::Deleted)]
    );
    let written = stage.written("DELETE");
    assert_eq!(written.len(), 3);
    for (body, object) in written.iter().zip(&prior.objects) {
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
    let prior = stage.ready(&touch(ask.clone())).await;
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
    let answer = answered::<Delete>(stage.act(&touch(ask.clone()), &prior).await);
    assert_eq!(
        ends(&answer),
        [("sonarr", End::Replaced), ("old-lidarr", End::Changed), ("crowdsec", End::AlreadyGone)]
    );
    assert!(is_there(&stage, "sonarr") && is_there(&stage, "old-lidarr"));
    match stage.prepare(&touch(ask), None).await.unwrap() {
        Prepared::Settled(answer) => {
            assert_eq!(
                ends(&take::<Delete>(answer)),
                [
                    ("sonarr", End::Replaced),
                    ("old-lidarr", End::Changed),
                    ("crowdsec", End::AlreadyGone)
                ]
            )
        }
        Prepared::Ready(prior) => panic!("{prior:?}"),
    }
}

#[tokio::test]
async fn what_was_settled_before_is_answered_in_the_sets_order() {
    let stage = Stage::new(Incident::Playbook);
    let ask = frozen(&stage, &["crowdsec", "sonarr"]).await;
    stage.simulator.remove(VOLSYNC, "replicationsources", "security", "crowdsec");
    assert_eq!(
        ends(&stage.touch(ask).await.unwrap()),
        [("crowdsec", End::AlreadyGone), ("sonarr", End::Deleted)]
    );
}

#[tokio::test]
async fn a_status_that_moved_is_tried_again_and_the_rest_is_answered() {
    let stage = Stage::new(Incident::Playbook);
    let ask = frozen(&stage, &["sonarr", "old-lidarr"]).await;
    let prior = stage.ready(&touch(ask.clone())).await;
    stage.simulator.edit(VOLSYNC, "replicationsources", "media", "sonarr", |object| {
        object["status"]["nextSyncTime"] = "2026-08-20T12:00:00Z".into()
    });
    let Acted::Conflict { sofar: Some(Answer::Delete(sofar)), rest: Touch::Delete(rest), .. } =
        stage.act(&touch(ask), &prior).await
    else {
        panic!("no conflict")
    };
    assert_eq!(ends(&sofar), [("old-lidarr", End::Deleted)]);
    assert_eq!(rest.set.len(), 1);
    assert_eq!(ends(&stage.touch(rest).await.unwrap()), [("sonarr", End::Deleted)]);
}

#[tokio::test]
async fn a_deletion_whose_answer_got_lost_is_settled_by_reading() {
    for fault in [Fault::status(504), Fault::dropped(), Fault::garbage()] {
        let stage = Stage::new(Incident::Playbook);
        let ask = frozen(&stage, &["sonarr"]).await;
        let prior = stage.ready(&touch(ask.clone())).await;
        stage.simulator.fault(fault.clone().on("delete").first(1).after_applying());
        let answer = answered::<Delete>(stage.act(&touch(ask), &prior).await);
        assert_eq!(ends(&answer), [("sonarr", End::Deleted)]);
        assert_eq!(stage.written("DELETE").len(), 1, "it was not sent again");

        let stage = Stage::new(Incident::Playbook);
        let ask = frozen(&stage, &["sonarr"]).await;
        let prior = stage.ready(&touch(ask.clone())).await;
        stage.simulator.fault(fault.on("delete").first(1));
        assert!(matches!(
            stage.act(&touch(ask.clone()), &prior).await,
            Acted::Conflict { sofar: None, .. }
        ));
        assert_eq!(ends(&stage.touch(ask).await.unwrap()), [("sonarr", End::Deleted)]);
    }
}

/// Whoever undoes the run has to know that it may be gone.
#[tokio::test]
async fn a_deletion_of_which_nothing_more_is_heard_is_unknown() {
    let stage = Stage::new(Incident::Playbook);
    let ask = frozen(&stage, &["sonarr"]).await;
    let prior = stage.ready(&touch(ask.clone())).await;
    stage.simulator.fault(Fault::dropped().on("delete").after_applying());
    stage.simulator.fault(Fault::dropped().on("get").at("/replicationsources/"));
    let answer = answered::<Delete>(stage.act(&touch(ask), &prior).await);
    assert_eq!(ends(&answer), [("sonarr", End::Unknown)]);
    assert!(!is_there(&stage, "sonarr"));
}

#[tokio::test]
async fn what_rbac_refuses_is_refused_and_the_others_go_on() {
    let stage = Stage::new(Incident::Playbook);
    let ask = frozen(&stage, &["crowdsec", "sonarr"]).await;
    stage.simulator.fault(Fault::status(403).on("delete").at("/namespaces/security/"));
    let answer = stage.touch(ask).await.unwrap();
    assert_eq!(ends(&answer), [("crowdsec", End::Refused), ("sonarr", End::Deleted)]);
    assert!(answer[0].message.as_ref().unwrap().contains("RBAC"));
}

#[tokio::test]
async fn what_was_deleted_is_made_anew_and_never_over_a_namesake() {
    let stage = Stage::new(Incident::Playbook);
    let ask = frozen(&stage, &["sonarr", "old-lidarr"]).await;
    let prior = stage.ready(&touch(ask.clone())).await;
    stage.touch(ask.clone()).await.unwrap();
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
        .zip(&prior.objects)
        .map(|(one, object)| Manifest { object: one.object.clone(), manifest: manifest(object) })
        .collect();
    let mut other = manifest(&prior.objects[0]);
    other["spec"]["paused"] = true.into();
    assert!(stage.simulator.insert(other.clone()).unwrap());
    let made: Vec<_> = stage.touch(Recreate { set }).await.unwrap();
    let end = |name: &str| made.iter().find(|made| made.object.name == name).map(|made| made.end);
    assert_eq!((end("old-lidarr"), end("sonarr")), (Some(MadeEnd::Made), Some(MadeEnd::Occupied)));
    assert!(is_there(&stage, "old-lidarr"));
    let namesake =
        stage.simulator.object(VOLSYNC, "replicationsources", "media", "sonarr").unwrap();
    assert_eq!(namesake["spec"], other["spec"], "it stands there as it stood");
    // All of them taken: nothing is sent.
    let all = Recreate {
        set: ask
            .set
            .iter()
            .zip(&prior.objects)
            .map(|(one, object)| Manifest {
                object: one.object.clone(),
                manifest: manifest(object),
            })
            .collect(),
    };
    let Prepared::Settled(answer) = stage.prepare(&touch(all), None).await.unwrap() else {
        panic!("there is nothing to make")
    };
    assert!(take::<Recreate>(answer).iter().all(|made| made.end == MadeEnd::Occupied
        && made.message.as_ref().unwrap().contains("bears its name")));
}

/// Its answer got lost: what stands there is ours, and no namesake.
#[tokio::test]
async fn what_was_made_without_an_answer_is_made() {
    for unread in [0, 4] {
        let stage = Stage::new(Incident::Playbook);
        let ask = frozen(&stage, &["old-lidarr"]).await;
        let mut manifest = stage.ready(&touch(ask.clone())).await.objects[0].clone();
        manifest["metadata"]
            .as_object_mut()
            .unwrap()
            .retain(|key, _| ["name", "namespace", "labels"].contains(&key.as_str()));
        manifest.as_object_mut().unwrap().remove("status");
        stage.touch(ask.clone()).await.unwrap();
        let set = vec![Manifest { object: ask.set[0].object.clone(), manifest }];
        let prior = stage.ready(&touch(Recreate { set: set.clone() })).await;
        stage.simulator.fault(Fault::dropped().on("create").first(1).after_applying());
        stage.simulator.fault(Fault::dropped().on("get").at("/replicationsources/").first(unread));
        // It is read at once; where that fails too, before the next attempt.
        match stage.act(&touch(Recreate { set }), &prior).await {
            Acted::Done(answer) if unread == 0 => {
                assert_eq!(take::<Recreate>(answer.unwrap())[0].end, MadeEnd::Made)
            }
            Acted::Conflict { rest, .. } if unread > 0 => {
                let Prepared::Settled(answer) = stage.prepare(&rest, Some(&prior)).await.unwrap()
                else {
                    panic!("it is there")
                };
                assert_eq!(take::<Recreate>(answer)[0].end, MadeEnd::Made);
                // Whoever has not asked for it has not made it.
                let Prepared::Settled(answer) = stage.prepare(&rest, None).await.unwrap() else {
                    panic!("it is there")
                };
                assert_eq!(take::<Recreate>(answer)[0].end, MadeEnd::Occupied);
            }
            other => panic!("{unread}: {other:?}"),
        }
    }
}
