//! `restart-deployment`: every pod is replaced, and every lease is acquired again.

use crate::fixture::{Fixture, answered, write};
use salve_core::capability::query_drivers::{Controller, Driver, FindDriver, Selector};
use salve_core::capability::restart_deployment::{
    AwaitRollout, Restart, Restarted, Rollout, Strategy,
};
use salve_core::outcome::Error;
use salve_run::{ApplyOutcome, Stop};
use salve_simulator::{Fault, Incident};
use serde_json::{Value, json};
use std::time::Duration;

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

/// What a cluster is like before a restart.
#[derive(Clone, Copy, Default)]
struct Before {
    /// The controller has one replica.
    single: bool,
    /// No two of its pods may share a node.
    anti_affinity: bool,
    /// A finished pod is left over.
    finished: bool,
    /// Nodes that are down. Each of the first two has a pod of the controller.
    down: &'static [&'static str],
    /// For how many seconds.
    down_for: u64,
    rolling_update: bool,
}

impl Before {
    fn apply(self, fixture: &Fixture, controller: &Controller) {
        let edit = |resource: &str, name: &str, change: &dyn Fn(&mut Value)| {
            assert!(fixture.simulator.edit("apps", resource, "rook-ceph", name, change));
        };
        let template = |object: &mut Value| {
            if self.single {
                object["spec"]["replicas"] = 1.into();
            }
            if self.rolling_update {
                object["spec"]["strategy"] = json!({"type": "RollingUpdate"});
            }
            if self.anti_affinity {
                object["spec"]["template"]["spec"]["affinity"] = json!({"podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution":
                        [{"topologyKey": "kubernetes.io/hostname"}]}});
            }
        };
        edit("deployments", &controller.deployment.name, &template);
        for set in fixture.simulator.objects("apps", "replicasets", Some("rook-ceph")) {
            let owner = &set["metadata"]["ownerReferences"][0]["name"];
            if *owner == controller.deployment.name.as_str() {
                edit("replicasets", set["metadata"]["name"].as_str().unwrap(), &template);
            }
        }
        let pod = |name: &str, change: &dyn Fn(&mut Value)| {
            assert!(fixture.simulator.edit("", "pods", "rook-ceph", name, change));
        };
        if self.finished {
            pod(&controller.pods[0].name, &|pod| {
                pod["status"] = json!({"phase": "Failed", "reason": "Evicted"});
            });
        }
        fixture.simulator.clock().advance(Duration::from_secs(200));
        for node in self.down {
            assert!(fixture.simulator.edit("", "nodes", "", node, |node| {
                node["status"]["conditions"][0]["status"] = "Unknown".into();
            }));
        }
        fixture.simulator.clock().advance(Duration::from_secs(self.down_for));
    }
}

/// Restarts the controller and waits for it, as a guest does. Returns what was running before.
async fn restart_after(
    before: Before,
    strategy: Strategy,
) -> (Controller, Result<Restarted, Error>, Rollout) {
    let fixture = Fixture::new(Incident::OperatorManaged);
    let (_, controller) = driver(&fixture).await;
    before.apply(&fixture, &controller);
    if strategy == Strategy::Annotate {
        // Its operator would revert the annotation.
        fixture.simulator.edit(
            "apps",
            "deployments",
            "rook-ceph",
            &controller.deployment.name,
            |object| {
                object["metadata"]["ownerReferences"] = json!([]);
            },
        );
    }
    let (driver, controller) = driver(&fixture).await;
    let target = controller.deployment.clone();
    let restart = Restart { target: target.clone(), uid: controller.uid.clone(), strategy };
    let restarted = fixture.write(restart).await;
    let at = restarted.clone().unwrap_or(Restarted { at: 0, old_pods: vec![] });
    let leases = driver.leases.into_iter().map(|lease| lease.name).collect();
    let call = AwaitRollout { target, restarted: at, leases, wait_seconds: 900 };
    let rollout = fixture.read(call).await.unwrap();
    (controller, restarted, rollout)
}

#[tokio::test]
async fn a_restart_replaces_the_pods_that_run_and_waits_for_no_others() {
    let one_node = Before { anti_affinity: true, down: &["node-1", "node-3"], ..Before::default() };
    for (case, before, ready_before, lingering) in [
        ("an evicted pod", Before { finished: true, ..Before::default() }, 2, 0),
        ("a single replica", Before { single: true, ..Before::default() }, 1, 0),
        (
            "anti-affinity",
            Before { anti_affinity: true, down: &["node-3"], down_for: 600, ..Before::default() },
            2,
            0,
        ),
        (
            "a terminating pod on a dead node",
            Before { down: &["node-1"], down_for: 600, ..Before::default() },
            2,
            1,
        ),
        ("and no room for its replacement", Before { down_for: 600, ..one_node }, 1, 1),
        ("and its eviction is still to come", Before { down_for: 60, ..one_node }, 1, 1),
        (
            "another dead node",
            Before { down: &["node-2"], down_for: 60, ..Before::default() },
            1,
            1,
        ),
    ] {
        let (controller, restarted, rollout) = restart_after(before, Strategy::ReplacePods).await;
        let restarted = restarted.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(restarted.old_pods.len(), ready_before, "{case}");
        assert!(rollout.done, "{case}: {:?}", rollout.waiting_for);
        let ready: Vec<_> = rollout.pods.iter().filter(|pod| pod.ready).collect();
        assert!(ready.len() >= ready_before, "{case}: {:?}", rollout.pods);
        assert!(
            ready.iter().all(|pod| controller.pods.iter().all(|old| old.uid != pod.uid)),
            "{case}: an old pod runs: {:?}",
            rollout.pods
        );
        let named = rollout.pods.iter().filter(|pod| {
            pod.terminating && pod.waiting.as_deref().is_some_and(|why| why.contains("down?"))
        });
        assert_eq!(named.count(), lingering, "{case}: {:?}", rollout.pods);
    }
}

#[tokio::test]
async fn an_annotation_is_complete_without_a_pod_on_a_dead_node_unless_it_blocks_the_rollout() {
    let down = Before { down: &["node-1"], down_for: 600, ..Before::default() };
    let rolling = Before { rolling_update: true, ..down };
    let (_, restarted, rollout) = restart_after(rolling, Strategy::Annotate).await;
    assert!(restarted.is_ok() && rollout.done, "{:?}", rollout.waiting_for);
    assert_eq!(rollout.pods.iter().filter(|pod| pod.terminating).count(), 1);

    // The Deployment controller starts no new pod before the old one is gone.
    let (_, _, rollout) = restart_after(down, Strategy::Annotate).await;
    let waiting_for = rollout.waiting_for.unwrap();
    assert!(
        waiting_for.starts_with("new pods: 0 of 2 are created; still there: ")
            && waiting_for.contains("is node node-1 down?"),
        "{waiting_for}"
    );
}

#[tokio::test]
async fn a_request_to_stop_ends_the_restart_before_the_next_pod() {
    let stop = Stop::default();
    let Fixture { simulator, backend } = Fixture::new(Incident::OperatorManaged);
    let fixture = Fixture { simulator, backend: backend.with_stop(stop.clone()) };
    let (_, controller) = driver(&fixture).await;
    let call = write(Restart {
        target: controller.deployment.clone(),
        uid: controller.uid.clone(),
        strategy: Strategy::ReplacePods,
    });
    let observed = fixture.observe(&call).await;
    stop.request();
    let outcome = fixture.apply(&call, &observed).await;
    let ApplyOutcome::Done(Err(Error::Unavailable(why))) = outcome else { panic!("{outcome:?}") };
    let left = format!(
        "stopped: 1 of 2 pods were deleted; one is still running: {}",
        controller.pods[1].name
    );
    assert_eq!(why, left);
    assert_eq!(fixture.request_bodies("DELETE").len(), 1);
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
