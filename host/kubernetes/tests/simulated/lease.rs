//! The cluster lock: one run at a time, and an expired lock is not taken over. An acquisition whose
//! response was lost stays in doubt.

use crate::fixture::{Fixture, RUN, answered, write};
use salve_core::capability::Released;
use salve_core::capability::cluster_lock::{AcquireLease, GetHolder, ReleaseLease};
use salve_core::outcome::Error;
use salve_run::ApplyOutcome;
use salve_simulator::{Fault, Incident};
use serde_json::json;
use std::time::Duration;

fn acquire(run: &str) -> AcquireLease {
    AcquireLease { run: run.into(), reason: "volsync-unlock by jane on desk".into(), seconds: 3600 }
}

#[tokio::test]
async fn the_cluster_lock_is_held_by_one_run_and_rejects_every_other() {
    let fixture = Fixture::new(Incident::Playbook);
    let ours = fixture.write(acquire(RUN)).await.unwrap();
    assert_eq!(fixture.write(acquire(RUN)).await.unwrap(), ours, "acquired again by the same run");
    let conflict_message = |error: Error| match error {
        Error::Conflict(text) => text,
        other => panic!("{other:?}"),
    };
    let message = conflict_message(fixture.write(acquire("run-2")).await.unwrap_err());
    assert!(
        message.contains(RUN)
            && message.contains("jane on desk")
            && message.contains("wait until it finishes"),
        "{message}"
    );

    let release = |run: &str| ReleaseLease { namespace: ours.namespace.clone(), run: run.into() };
    assert_eq!(fixture.release(release("run-2")).await, Ok(Released { taken_over: None }));
    assert_eq!(
        fixture.read(GetHolder {}).await.unwrap().map(|holder| holder.uid),
        Some(ours.uid.clone()),
        "the lock of another run is not released"
    );
    assert!(fixture.request_bodies("DELETE").is_empty());
    assert_eq!(fixture.release(release(RUN)).await, Ok(Released { taken_over: None }));
    assert_eq!(fixture.request_bodies("DELETE")[0]["preconditions"]["uid"], ours.uid.as_str());
    assert_eq!(fixture.read(GetHolder {}).await.unwrap(), None);
    fixture.write(acquire("run-2")).await.unwrap();
}

/// Creates the namespace `salve`, as someone who applies the output of `salve rbac` does.
fn create_namespace(fixture: &Fixture) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "salve"}});
    assert!(fixture.simulator.insert(namespace).unwrap());
}

#[tokio::test]
async fn a_lock_is_found_after_its_preferred_namespace_was_created() {
    let fixture = Fixture::new(Incident::Playbook);
    let ours = fixture.write(acquire(RUN)).await.unwrap();
    assert_eq!(ours.namespace, "default");
    create_namespace(&fixture);
    let error = fixture.write(acquire("run-2")).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict(text) if text.contains(RUN)), "{error:?}");
    // A recovery of the run keeps its Lease, and `salve doctor` finds it.
    let recovery = Fixture::over(fixture.simulator.clone());
    assert_eq!(recovery.write(acquire(RUN)).await.unwrap(), ours);
    let holder = recovery.read(GetHolder {}).await.unwrap().unwrap();
    assert_eq!((holder.run.as_str(), holder.namespace.as_str()), (RUN, "default"));
    assert_eq!(fixture.request_bodies("POST").len(), 1);
    let release = ReleaseLease { namespace: ours.namespace, run: RUN.into() };
    recovery.release(release).await.unwrap();
    assert_eq!(recovery.read(GetHolder {}).await.unwrap(), None);
    let next = fixture.write(acquire("run-2")).await.unwrap();
    assert_eq!(next.namespace, "salve");
    let error = fixture.write(acquire(RUN)).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict(text) if text.contains("run-2")), "{error:?}");
}

#[tokio::test]
async fn a_lock_in_doubt_is_found_after_its_preferred_namespace_was_created() {
    let fixture = Fixture::new(Incident::Playbook);
    let call = write(acquire(RUN));
    let observed = fixture.observe(&call).await;
    let fault = Fault::dropped().on("create").at("/leases").first(1).after_applying();
    fixture.simulator.fault(fault);
    assert!(matches!(fixture.apply(&call, &observed).await, ApplyOutcome::Conflict { .. }));
    create_namespace(&fixture);
    let ours = answered::<AcquireLease>(fixture.resolve(&call, &observed).await);
    assert_eq!(ours.namespace, "default");
}

/// While another run has a Lease in the other namespace, even the own Lease is not enough.
#[tokio::test]
async fn two_locks_reject_both_runs() {
    let fixture = Fixture::new(Incident::Playbook);
    fixture.write(acquire(RUN)).await.unwrap();
    create_namespace(&fixture);
    let mut other = fixture
        .simulator
        .object("coordination.k8s.io", "leases", "default", "salve")
        .expect("the Lease exists");
    other["metadata"] = json!({"name": "salve", "namespace": "salve"});
    other["spec"]["holderIdentity"] = "run-2".into();
    assert!(fixture.simulator.insert(other).unwrap());
    for (run, holder) in [(RUN, "run-2"), ("run-2", RUN)] {
        let error = fixture.write(acquire(run)).await.unwrap_err();
        assert!(matches!(&error, Error::Conflict(text) if text.contains(holder)), "{error:?}");
    }
}

#[tokio::test]
async fn only_the_preferred_namespace_has_to_be_readable() {
    for (part, is_enough) in
        [("/namespaces/default/leases/", true), ("/namespaces/salve/leases/", false)]
    {
        let fixture = Fixture::new(Incident::Playbook);
        create_namespace(&fixture);
        fixture.simulator.fault(Fault::status(403).on("get").at(part));
        match fixture.write(acquire(RUN)).await {
            Ok(ours) => assert!(is_enough && ours.namespace == "salve", "{part}"),
            Err(error) => assert!(!is_enough && matches!(error, Error::Forbidden(_)), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn an_expired_lock_is_reported_with_its_run_and_not_taken_over() {
    let fixture = Fixture::new(Incident::Playbook);
    let ours = fixture.write(acquire(RUN)).await.unwrap();
    fixture.simulator.clock().advance(Duration::from_secs(7200));
    let error = fixture.write(acquire("run-2")).await.unwrap_err();
    let message = error.text();
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    assert!(
        message.contains("is past its deadline")
            && message.contains(&format!("salve recover {RUN}"))
            && message.contains("kubectl delete lease salve -n default"),
        "{message}"
    );
    assert_eq!(fixture.read(GetHolder {}).await.unwrap().map(|holder| holder.uid), Some(ours.uid));
}

#[tokio::test]
async fn a_lock_acquired_with_a_lost_response_is_resolved_by_reading() {
    for applied in [true, false] {
        for fault in [Fault::status(504), Fault::dropped(), Fault::garbage()] {
            let fixture = Fixture::new(Incident::Playbook);
            let call = write(acquire(RUN));
            let observed = fixture.observe(&call).await;
            let fault = fault.on("create").at("/leases").first(1);
            fixture.simulator.fault(if applied { fault.after_applying() } else { fault });
            let ApplyOutcome::Conflict { completed: None, remaining, in_doubt: true, .. } =
                fixture.apply(&call, &observed).await
            else {
                panic!("the creation is in doubt")
            };
            assert_eq!(remaining, call);
            let resolved = fixture.resolve(&call, &observed).await;
            if applied {
                let ours = answered::<AcquireLease>(resolved);
                assert_eq!(fixture.write(acquire(RUN)).await.unwrap(), ours);
                let release = ReleaseLease { namespace: ours.namespace, run: RUN.into() };
                fixture.release_after(release, Some(&observed)).await.unwrap();
                assert_eq!(fixture.read(GetHolder {}).await.unwrap(), None);
            } else {
                // It may still be created, so it stays in doubt.
                assert!(matches!(resolved, ApplyOutcome::Conflict { in_doubt: true, .. }));
                assert_eq!(fixture.read(GetHolder {}).await.unwrap(), None);
            }
        }
    }
}

#[tokio::test]
async fn a_lock_released_with_a_lost_response_is_released_once() {
    for applied in [true, false] {
        let fixture = Fixture::new(Incident::Playbook);
        let ours = fixture.write(acquire(RUN)).await.unwrap();
        let fault = Fault::dropped().on("delete").first(1);
        fixture.simulator.fault(if applied { fault.after_applying() } else { fault });
        let release = ReleaseLease { namespace: ours.namespace, run: RUN.into() };
        assert_eq!(fixture.release(release).await, Ok(Released { taken_over: None }));
        assert_eq!(fixture.read(GetHolder {}).await.unwrap(), None);
        assert_eq!(fixture.request_bodies("DELETE").len(), if applied { 1 } else { 2 });
    }
}
