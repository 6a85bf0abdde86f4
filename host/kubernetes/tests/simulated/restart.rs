//! `restart-deployment`: every pod is replaced, and every lease is acquired again.

use crate::fixture::{Fixture, answered, write};
use salve_core::capability::query_drivers::{Controller, Driver, FindDriver, Selector};
use salve_core::capability::restart_deployment::{AwaitRollout, Restart, Strategy};
use salve_core::outcome::Error;
use salve_run::ApplyOutcome;
use salve_simulator::{Fault, Incident};

async fn driver(fixture: &Fixture) -> (Driver, Controller) {
    let found = fixture
        .read(FindDriver {
            selector: Selector::StorageClass("ceph-block".into()),
            namespace: "rook-ceph".into(),
        })
        .await
        .unwrap();
    let controller = found.controller.clone().expect("the driver has a controller");
    (found, controller)
}

async fn restart_and_await(fixture: &Fixture, strategy: Strategy) {
    let (driver, controller) = driver(fixture).await;
    let restarted = fixture
        .write(Restart {
            target: controller.deployment.clone(),
            uid: controller.uid.clone(),
            strategy,
        })
        .await
        .unwrap();
    assert_eq!(restarted.old_pods.len(), controller.pods.len());
    let leases: Vec<String> = driver.leases.iter().map(|lease| lease.name.clone()).collect();
    let call = |wait_seconds| AwaitRollout {
        target: controller.deployment.clone(),
        restarted: restarted.clone(),
        leases: leases.clone(),
        wait_seconds,
    };
    let early = fixture.read(call(0)).await.unwrap();
    assert!(!early.done && early.waiting_for.is_some(), "{early:?}");
    let rollout = fixture.read(call(900)).await.unwrap();
    assert!(rollout.done, "{:?}", rollout.waiting_for);
    assert!(rollout.pods.iter().all(|pod| pod.ready && !restarted.old_pods.contains(&pod.uid)));
    assert_eq!(rollout.leases.len(), leases.len());
}

#[tokio::test]
async fn an_annotation_restarts_the_pods_and_the_leases_are_awaited() {
    restart_and_await(&Fixture::new(Incident::Playbook), Strategy::Annotate).await;
}

#[tokio::test]
async fn pods_are_replaced_one_after_the_other_by_uid() {
    let fixture = Fixture::new(Incident::OperatorManaged);
    let (_, controller) = driver(&fixture).await;
    assert!(controller.operator_managed);
    restart_and_await(&fixture, Strategy::ReplacePods).await;
    let deleted: Vec<_> = fixture
        .request_bodies("DELETE")
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
async fn a_replaced_or_paused_deployment_is_not_restarted() {
    let fixture = Fixture::new(Incident::Playbook);
    let (_, controller) = driver(&fixture).await;
    let call = |uid: &str| Restart {
        target: controller.deployment.clone(),
        uid: uid.into(),
        strategy: Strategy::Annotate,
    };
    assert!(matches!(fixture.write(call("another")).await, Err(Error::Conflict(_))));
    fixture.simulator.edit(
        "apps",
        "deployments",
        "rook-ceph",
        &controller.deployment.name,
        |object| object["spec"]["paused"] = true.into(),
    );
    assert!(matches!(fixture.write(call(&controller.uid)).await, Err(Error::Invalid(_))));
    assert!(fixture.simulator.mutations().is_empty());
}

#[tokio::test]
async fn a_restart_with_a_lost_response_is_resolved_by_reading() {
    let fixture = Fixture::new(Incident::Playbook);
    let (_, controller) = driver(&fixture).await;
    let call = write(Restart {
        target: controller.deployment.clone(),
        uid: controller.uid.clone(),
        strategy: Strategy::Annotate,
    });
    let observed = fixture.observe(&call).await;
    fixture.simulator.fault(Fault::dropped().on("patch").first(1).after_applying());
    assert_eq!(answered::<Restart>(fixture.apply(&call, &observed).await).at, observed.at);
    assert_eq!(fixture.request_bodies("PATCH").len(), 1);

    let fixture = Fixture::new(Incident::Playbook);
    let observed = fixture.observe(&call).await;
    fixture.simulator.fault(Fault::dropped().on("patch").first(1));
    assert!(matches!(fixture.apply(&call, &observed).await, ApplyOutcome::Conflict { .. }));
}
