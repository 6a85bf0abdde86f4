//! What `suspend-flux` waits for before it returns.

use crate::fixture::{Fixture, answered, app, write};
use crate::suspend::{change, outcome_names, set, suspend};
use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::capability::suspend_flux::Suspend;
use salve_core::capability::types::{FluxKind, FluxRef};
use salve_core::outcome::Error;
use salve_run::Clock;
use salve_simulator::{Incident, Simulator};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Sets the conditions that a controller reported 30 s ago.
fn report(simulator: &Simulator, target: &FluxRef, conditions: &[(&str, &str, &str, &str)]) {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(kind, status, reason, message)| {
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": "2026-08-20T09:59:30Z"})
        })
        .collect();
    let FluxRef { kind, namespace, name } = target;
    assert!(simulator.edit(kind.group(), kind.plural(), namespace, name, |object| {
        object["status"]["conditions"] = conditions.into();
    }));
}

#[tokio::test]
async fn a_suspend_waits_only_for_what_may_still_be_applied() {
    let kustomization = app("media", "plex");
    let release =
        FluxRef { kind: FluxKind::HelmRelease, namespace: "selfhosted".into(), name: "n8n".into() };
    let health = "Running health checks for revision main@sha1:aaaa with a timeout of 59m30s";
    let drift = "Detecting drift for revision main@sha1:aaaa with a timeout of 59m30s";
    let in_progress = ("Ready", "Unknown", "Progressing", "Reconciliation in progress");
    for (target, conditions, is_idle) in [
        (
            &kustomization,
            vec![
                ("Reconciling", "True", "Progressing", health),
                in_progress,
                ("Healthy", "Unknown", "Progressing", health),
            ],
            true,
        ),
        (&kustomization, vec![("Reconciling", "True", "Progressing", drift), in_progress], false),
        (&kustomization, vec![in_progress], false),
        (
            &release,
            vec![
                ("Reconciling", "True", "Progressing", "Fulfilling prerequisites"),
                ("Ready", "False", "DependencyNotReady", "dependency 'media/db' is not ready"),
            ],
            true,
        ),
    ] {
        let fixture = Fixture::new(Incident::Playbook);
        report(&fixture.simulator, target, &conditions);
        let result = fixture
            .suspend(Suspend {
                targets: vec![target.clone()],
                reason: String::new(),
                drain_seconds: 60,
            })
            .await;
        assert_eq!(result.is_ok(), is_idle, "{conditions:?}: {result:?}");
    }
}

#[tokio::test]
async fn a_reconciliation_whose_controller_died_does_not_block_a_suspend() {
    let fixture = Fixture::new(Incident::Playbook);
    let building = "Building manifests for revision main@sha1:aaaa with a timeout of 5m0s";
    report(
        &fixture.simulator,
        &app("media", "plex"),
        &[
            ("Reconciling", "True", "Progressing", building),
            ("Ready", "Unknown", "Progressing", "Reconciliation in progress"),
        ],
    );
    let error = fixture.suspend(suspend("plex")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable(text) if text.contains(building)
            && text.contains("try again after 2026-08-20T10:09:30Z")),
        "{error}"
    );
    fixture.simulator.clock().advance(Duration::from_secs(600));
    change(&fixture, "plex", |object| {
        object["spec"]["suspend"] = Value::Null;
        object["metadata"]["annotations"] = Value::Null;
    });
    fixture.suspend(suspend("plex")).await.unwrap();
}

/// Makes a Kustomization report that it is being applied, for less than 10 min.
fn report_applying(simulator: &Simulator, target: &FluxRef) {
    let message = "Detecting drift for revision main@sha1:aaaa with a timeout of 5m0s";
    report(
        simulator,
        target,
        &[
            ("Reconciling", "True", "Progressing", message),
            ("Ready", "Unknown", "Progressing", "Reconciliation in progress"),
        ],
    );
}

#[tokio::test]
async fn a_set_is_suspended_first_and_then_waited_for_together() {
    let fixture = Fixture::new(Incident::Playbook);
    for name in ["plex", "bazarr"] {
        report_applying(&fixture.simulator, &app("media", name));
    }
    let before = fixture.simulator.clock().now();
    let results = fixture.write(set(&["plex", "radarr", "bazarr"])).await.unwrap();
    assert_eq!(outcome_names(&results), ["failed", "suspended", "failed"], "{results:?}");
    assert!(
        fixture.simulator.clock().now().duration_since(before).as_secs() < 2 * 30,
        "the waits for 30 s are concurrent"
    );
}

#[tokio::test]
async fn a_child_is_suspended_once_its_parent_applies_nothing_more() {
    for is_applying in [true, false] {
        let fixture = Fixture::new(Incident::Playbook);
        let parent = app("flux-system", "cluster-apps");
        if is_applying {
            report_applying(&fixture.simulator, &parent);
        }
        let targets = vec![parent, app("media", "radarr"), app("media", "plex")];
        let results = fixture.write(Suspend { targets, ..set(&[]) }).await.unwrap();
        let (expected, patches) = if is_applying {
            (["failed", "not tried", "not tried"], 1)
        } else {
            (["suspended"; 3], 3)
        };
        assert_eq!(outcome_names(&results), expected, "{results:?}");
        assert_eq!(fixture.request_bodies("PATCH").len(), patches);
    }
}

#[tokio::test]
async fn objects_suspended_before_a_conflict_are_waited_for() {
    let fixture = Fixture::new(Incident::Playbook);
    report_applying(&fixture.simulator, &app("media", "plex"));
    let call = write(set(&["plex", "bazarr", "radarr"]));
    let previous = fixture.observe(&call).await;
    change(&fixture, "bazarr", |object| object["metadata"]["labels"]["seen"] = "now".into());
    let results = answered::<Suspend>(fixture.apply(&call, &previous).await);
    assert_eq!(outcome_names(&results), ["failed", "not tried", "not tried"], "{results:?}");
}

/// A controller that reports a reconciliation only after the first look at its object, because it
/// started from its cache, and ends it two looks later.
struct StaleCache {
    simulator: Simulator,
    sleeps: AtomicUsize,
}

impl Clock for StaleCache {
    fn now(&self) -> Millis {
        u64::try_from(self.simulator.clock().now().as_millisecond()).unwrap()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.simulator.clock().advance(duration);
        match self.sleeps.fetch_add(1, Ordering::Relaxed) {
            0 => report_applying(&self.simulator, &app("media", "plex")),
            2 => report(
                &self.simulator,
                &app("media", "plex"),
                &[("Ready", "True", "ReconciliationSucceeded", "Applied revision: main@sha1:aaaa")],
            ),
            _ => {}
        }
        std::future::ready(()).boxed()
    }
}

#[tokio::test]
async fn a_reconciliation_from_a_stale_cache_is_waited_for() {
    let simulator = Simulator::new(Incident::Playbook);
    let clock = Arc::new(StaleCache { simulator: simulator.clone(), sleeps: AtomicUsize::new(0) });
    let fixture = Fixture::with_clock(simulator, clock.clone());
    let results = fixture.write(set(&["radarr", "plex"])).await.unwrap();
    assert_eq!(outcome_names(&results), ["suspended", "suspended"], "{results:?}");
    let conditions = fixture.kustomization("media", "plex")["status"]["conditions"].clone();
    assert_eq!(conditions[0]["status"], "True", "{conditions}");
    // To the second look, and twice while it was applied.
    assert_eq!(clock.sleeps.load(Ordering::Relaxed), 3);
}
