//! The cluster lock: one run at a time, and an expired lock is not taken over. An acquisition whose
//! response was lost stays in doubt.

use crate::fixture::{Fixture, RUN, answered, write};
use salve_core::capability::Released;
use salve_core::capability::cluster_lock::{AcquireLease, GetHolder, ReleaseLease};
use salve_core::outcome::Error;
use salve_run::ApplyOutcome;
use salve_simulator::{Fault, Incident};
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
