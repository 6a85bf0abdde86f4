//! The cluster's Lease: one run at a time, and nobody's by waiting.

use crate::fixture::{RUN, Stage};
use salve_core::effect::host::{AcquireLease, Lease, ReleaseLease};
use salve_core::outcome::Error;
use salve_simulator::Incident;
use std::time::Duration;

fn take(run: &str) -> AcquireLease {
    AcquireLease { run: run.into(), reason: "volsync-unlock by jane on desk".into(), seconds: 3600 }
}

#[tokio::test]
async fn the_cluster_is_taken_by_one_run_and_kept_from_every_other() {
    let stage = Stage::new(Incident::Playbook);
    let ours = stage.write(take(RUN)).await.unwrap();
    assert_eq!(stage.write(take(RUN)).await.unwrap(), ours, "our own is ours still");
    let refused = |error: Error| match error {
        Error::Conflict(text) => text,
        other => panic!("{other:?}"),
    };
    let told = refused(stage.write(take("run-2")).await.unwrap_err());
    assert!(
        told.contains(RUN) && told.contains("jane on desk") && told.contains("let it end"),
        "{told}"
    );

    stage
        .write(ReleaseLease { namespace: ours.namespace.clone(), uid: "another".into() })
        .await
        .unwrap();
    assert_eq!(
        stage.look(Lease {}).await.unwrap().map(|held| held.uid),
        Some(ours.uid.clone()),
        "another's is not ours to give back"
    );
    stage.write(ReleaseLease { namespace: ours.namespace, uid: ours.uid }).await.unwrap();
    assert_eq!(stage.look(Lease {}).await.unwrap(), None);
    stage.write(take("run-2")).await.unwrap();
}

#[tokio::test]
async fn a_lease_whose_time_is_over_is_shown_with_its_run_and_not_broken() {
    let stage = Stage::new(Incident::Playbook);
    let ours = stage.write(take(RUN)).await.unwrap();
    stage.simulator.clock().advance(Duration::from_secs(7200));
    let error = stage.write(take("run-2")).await.unwrap_err();
    let told = error.text();
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    assert!(
        told.contains("its time is over")
            && told.contains(&format!("salve recover {RUN}"))
            && told.contains("kubectl delete lease salve -n default"),
        "{told}"
    );
    assert_eq!(stage.look(Lease {}).await.unwrap().map(|held| held.uid), Some(ours.uid));
}
