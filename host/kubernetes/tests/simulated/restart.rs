//! `restart-deployment`: every pod a new one, every lease taken anew.

use crate::fixture::{Stage, answered, write};
use salve_core::effect::query_drivers::{Controller, Driver, FindDriver, Selector};
use salve_core::effect::restart_deployment::{AwaitRollout, Restart, Strategy};
use salve_core::outcome::Error;
use salve_run::ApplyOutcome;
use salve_simulator::{Fault, Incident};

async fn driver(stage: &Stage) -> (Driver, Controller) {
    let found = stage
        .look(FindDriver {
            selector: Selector::StorageClass("ceph-block".into()),
            namespace: "rook-ceph".into(),
        })
        .await
        .unwrap();
    let controller = found.controller.clone().expect("it has a controller");
    (found, controller)
}

async fn restarted(stage: &Stage, strategy: Strategy) {
    let (driver, controller) = driver(stage).await;
    let restarted = stage
        .write(Restart {
            target: controller.deployment.clone(),
            uid: controller.uid.clone(),
            strategy,
        })
        .await
        .unwrap();
    assert_eq!(restarted.old_pods.len(), controller.pods.len());
    let leases: Vec<String> = driver.leases.iter().map(|lease| lease.name.clone()).collect();
    let ask = |wait_seconds| AwaitRollout {
        target: controller.deployment.clone(),
        restarted: restarted.clone(),
        leases: leases.clone(),
        wait_seconds,
    };
    let early = stage.look(ask(0)).await.unwrap();
    assert!(!early.done && early.waiting_for.is_some(), "{early:?}");
    let rollout = stage.look(ask(900)).await.unwrap();
    assert!(rollout.done, "{:?}", rollout.waiting_for);
    assert!(rollout.pods.iter().all(|pod| pod.ready && !restarted.old_pods.contains(&pod.uid)));
    assert_eq!(rollout.leases.len(), leases.len());
}

#[tokio::test]
async fn an_annotation_restarts_it_and_the_leases_are_waited_for() {
    restarted(&Stage::new(Incident::Playbook), Strategy::Annotate).await;
}

#[tokio::test]
async fn pods_are_replaced_one_by_one_by_uid() {
    let stage = Stage::new(Incident::OperatorManaged);
    let (_, controller) = driver(&stage).await;
    assert!(controller.operator_managed);
    restarted(&stage, Strategy::ReplacePods).await;
    let deleted: Vec<_> = stage
        .written("DELETE")
        .iter()
        .filter_map(|body| body["preconditions"]["uid"].as_str().map(str::to_owned))
        .collect();
    let mut old: Vec<_> = controller.pods.iter().map(|pod| pod.uid.clone()).collect();
    old.sort();
    let mut sorted = deleted;
    sorted.sort();
    assert_eq!(sorted, old);
}

#[tokio::test]
async fn another_object_or_a_paused_one_is_not_restarted() {
    let stage = Stage::new(Incident::Playbook);
    let (_, controller) = driver(&stage).await;
    let ask = |uid: &str| Restart {
        target: controller.deployment.clone(),
        uid: uid.into(),
        strategy: Strategy::Annotate,
    };
    assert!(matches!(stage.write(ask("another")).await, Err(Error::Conflict(_))));
    stage.simulator.edit(
        "apps",
        "deployments",
        "rook-ceph",
        &controller.deployment.name,
        |object| object["spec"]["paused"] = true.into(),
    );
    assert!(matches!(stage.write(ask(&controller.uid)).await, Err(Error::Invalid(_))));
    assert!(stage.simulator.mutations().is_empty());
}

#[tokio::test]
async fn a_restart_whose_answer_got_lost_is_settled_by_reading() {
    let stage = Stage::new(Incident::Playbook);
    let (_, controller) = driver(&stage).await;
    let ask = write(Restart {
        target: controller.deployment.clone(),
        uid: controller.uid.clone(),
        strategy: Strategy::Annotate,
    });
    let observed = stage.ready(&ask).await;
    stage.simulator.fault(Fault::dropped().on("patch").first(1).after_applying());
    assert_eq!(answered::<Restart>(stage.act(&ask, &observed).await).at, observed.at);
    assert_eq!(stage.written("PATCH").len(), 1);

    let stage = Stage::new(Incident::Playbook);
    let observed = stage.ready(&ask).await;
    stage.simulator.fault(Fault::dropped().on("patch").first(1));
    assert!(matches!(stage.act(&ask, &observed).await, ApplyOutcome::Conflict { .. }));
}
