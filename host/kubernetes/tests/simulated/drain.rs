//! What `suspend-flux` waits for before it returns.

use crate::fixture::{Fixture, answered, app, write};
use crate::suspend::{change, outcome_names, set, suspend};
use salve_core::capability::suspend_flux::Suspend;
use salve_core::capability::types::{FluxKind, FluxRef};
use salve_core::outcome::Error;
use salve_simulator::Incident;
use serde_json::{Value, json};
use std::time::Duration;

/// Sets the conditions that a controller reported 30 s ago.
fn report(fixture: &Fixture, target: &FluxRef, conditions: &[(&str, &str, &str, &str)]) {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(kind, status, reason, message)| {
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": "2026-08-20T09:59:30Z"})
        })
        .collect();
    let FluxRef { kind, namespace, name } = target;
    assert!(fixture.simulator.edit(kind.group(), kind.plural(), namespace, name, |object| {
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
        report(&fixture, target, &conditions);
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
        &fixture,
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
fn report_applying(fixture: &Fixture, target: &FluxRef) {
    let message = "Detecting drift for revision main@sha1:aaaa with a timeout of 5m0s";
    report(
        fixture,
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
        report_applying(&fixture, &app("media", name));
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
            report_applying(&fixture, &parent);
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
    report_applying(&fixture, &app("media", "plex"));
    let call = write(set(&["plex", "bazarr", "radarr"]));
    let previous = fixture.observe(&call).await;
    change(&fixture, "bazarr", |object| object["metadata"]["labels"]["seen"] = "now".into());
    let results = answered::<Suspend>(fixture.apply(&call, &previous).await);
    assert_eq!(outcome_names(&results), ["failed", "not tried", "not tried"], "{results:?}");
}
