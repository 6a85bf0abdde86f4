//! Rules that hold for every write, also for those that are added later.

use super::cluster_lock::{AcquireLease, LEASE};
use super::delete_replicationsources::{Delete, DeletionTarget, Manifest, Pacing, Recreate};
use super::override_fields::Override;
use super::reconcile_flux::Reconcile;
use super::restart_deployment::{Restart, Strategy};
use super::suspend_flux::Suspend;
use super::types::Kind;
use super::types::{FluxKind, FluxRef, ObjectRef};
use super::{Effect, Function, Group, Summary, TypedCall, Unfinished, Write};
use crate::journal::ObservedState;
use crate::outcome::Error;
use serde_json::json;
use std::collections::BTreeSet;

/// A call of each write, and the objects that are read for it.
fn samples() -> Vec<(Write, ObservedState)> {
    let object = |kind: &str, name: &str| {
        json!({
            "apiVersion": "volsync.backube/v1alpha1",
            "kind": kind,
            "metadata": {"namespace": "media", "name": name, "uid": format!("uid-{name}")},
            "spec": {},
        })
    };
    let flux = |name: &str| FluxRef {
        kind: FluxKind::Kustomization,
        namespace: "media".into(),
        name: name.into(),
    };
    let deletion = |name: &str| DeletionTarget {
        object: ObjectRef::new("media", name),
        uid: format!("uid-{name}"),
        digest: "d".into(),
        reason: "its PVC is gone".into(),
    };
    let manifest = |name: &str| Manifest::of(&object("ReplicationSource", name)).unwrap();
    let kustomizations = || vec![object("Kustomization", "a"), object("Kustomization", "b")];
    let samples = vec![
        (
            AcquireLease { run: "r".into(), reason: "test".into(), seconds: 60 }.effect(),
            vec![object("Lease", LEASE)],
        ),
        (
            Suspend {
                targets: vec![flux("a"), flux("b")],
                reason: "test".into(),
                drain_seconds: 1,
            }
            .effect(),
            kustomizations(),
        ),
        (Reconcile { target: flux("a"), force: false, wait_seconds: 1 }.effect(), kustomizations()),
        (
            Delete {
                set: vec![deletion("a"), deletion("b")],
                pacing: Pacing { batch_size: 1, interval_ms: 0 },
            }
            .effect(),
            vec![object("ReplicationSource", "a"), object("ReplicationSource", "b")],
        ),
        (Recreate { set: vec![manifest("a"), manifest("b")] }.effect(), vec![]),
        (
            Restart {
                target: ObjectRef::new("media", "a"),
                uid: "uid-a".into(),
                strategy: Strategy::Annotate,
            }
            .effect(),
            vec![object("Deployment", "a")],
        ),
        (
            Override {
                kind: Kind { group: "apps".into(), resource: "deployments".into() },
                object: ObjectRef::new("media", "a"),
                field: "spec.replicas".into(),
                value: 0,
                reason: "test".into(),
            }
            .effect(),
            vec![object("Deployment", "a")],
        ),
    ];
    let samples: Vec<(Write, ObservedState)> = samples
        .into_iter()
        .map(|(effect, objects)| {
            effect.validate().unwrap();
            let Effect::Write(write) = effect else { panic!("{} is not a write", effect.name()) };
            (write, ObservedState { objects, at: 1 })
        })
        .collect();
    let sampled: BTreeSet<Function> = samples.iter().map(|(write, _)| write.function()).collect();
    let writes: BTreeSet<Function> =
        Function::ALL.iter().copied().filter(|function| function.group() == Group::Write).collect();
    assert_eq!(sampled, writes, "each write needs a sample");
    samples
}

#[test]
fn a_write_does_not_differ_from_itself() {
    for (write, _) in samples() {
        let difference = write.difference(&write, || "another function".into());
        assert_eq!(difference, None, "{}", write.name());
    }
}

#[test]
fn a_write_differs_from_every_other_function() {
    let samples = samples();
    for (one, _) in &samples {
        for (other, _) in samples.iter().filter(|(other, _)| other.function() != one.function()) {
            let difference = one.difference(other, || "another function".into());
            assert_eq!(difference.as_deref(), Some("another function"), "{}", one.name());
        }
    }
}

#[test]
fn a_write_without_any_result_is_never_ok() {
    let errors = [
        Error::Denied("forbidden".into()),
        Error::NotFound("gone".into()),
        Error::Conflict("changed".into()),
        Error::Unavailable("no response".into()),
    ];
    for (write, _) in samples() {
        for error in &errors {
            for (sent, unknown) in [(false, false), (true, false), (true, true)] {
                let unfinished = Unfinished { error: error.clone(), sent, unknown };
                match write.assemble(vec![], Some(&unfinished)) {
                    Err(returned) => assert_eq!(returned, *error, "{}", write.name()),
                    Ok(answer) => {
                        let summary = write.summary(&answer);
                        assert!(
                            matches!(summary, Summary::Failed(_)),
                            "{}: {unfinished:?}: {summary:?}",
                            write.name()
                        );
                    }
                }
            }
        }
        if let Ok(answer) = write.assemble(vec![], None) {
            assert_ne!(write.summary(&answer), Summary::Ok, "{}: no result", write.name());
        }
    }
}

#[test]
fn the_predicted_answer_of_a_write_is_assembled_unchanged() {
    for (write, observed) in samples() {
        let predicted = write.predict(&observed, 1);
        let assembled = write.assemble(vec![predicted.clone()], None).unwrap();
        assert_eq!(assembled, predicted, "{}", write.name());
    }
}

#[test]
fn a_reversible_write_has_a_reversal_whatever_its_outcome() {
    for (write, observed) in samples() {
        let unknown = write.reversals(&observed, None);
        let predicted = write.reversals(&observed, Some(&write.predict(&observed, 1)));
        let Some(reversed_by) = write.function().reversed_by() else {
            assert!(unknown.is_empty() && predicted.is_empty(), "{}", write.name());
            continue;
        };
        assert!(!predicted.is_empty(), "{}: nothing after it was applied", write.name());
        assert!(predicted.iter().all(|pending| !pending.in_doubt), "{}", write.name());
        assert!(!unknown.is_empty(), "{}: nothing before its outcome is known", write.name());
        assert!(unknown.iter().all(|pending| pending.in_doubt), "{}", write.name());
        for pending in unknown.iter().chain(&predicted) {
            assert_eq!(pending.reversal.function(), reversed_by);
        }
        assert!(unknown.iter().all(|pending| pending.reversal.validate().is_ok()));
    }
}
