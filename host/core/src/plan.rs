//! What a plan answers in place of writes, and how later reads show it.
//!
//! A plan is a run of the real guest against real reads: writes are recorded, not sent, and laid over
//! what is read later, until the guest waits for something that only a write could bring.

use crate::Millis;
use crate::effect::delete_replicationsources::{Deletion, End, Frozen, Made, MadeEnd};
use crate::effect::host::Acquired;
use crate::effect::reconcile_flux::Reconciled;
use crate::effect::restart_deployment::Restarted;
use crate::effect::shared::FluxRef;
use crate::effect::suspend_flux::{Hold, HoldEnd, Prior as Was, Resumed, Suspended};
use crate::effect::{Answer, Look, Touch};
use crate::journal::Prior;
use std::collections::HashSet;

/// What was recorded instead of performed.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    deleted: HashSet<String>,
    touched: bool,
}

impl Overlay {
    /// Something was recorded: from here on, a wait has no end that a plan could know.
    pub fn touched(&self) -> bool {
        self.touched
    }

    /// Notes a write that was recorded.
    pub fn record(&mut self, touch: &Touch) {
        self.touched = true;
        match touch {
            Touch::Delete(delete) => {
                self.deleted.extend(delete.set.iter().map(|frozen| frozen.uid.clone()))
            }
            Touch::AcquireLease(_)
            | Touch::ReleaseLease(_)
            | Touch::Suspend(_)
            | Touch::Resume(_)
            | Touch::Reconcile(_)
            | Touch::Recreate(_)
            | Touch::Restart(_) => {}
        }
    }

    /// Lays what was recorded over an answer: what would be deleted is gone, and what it owns with it.
    pub fn cover(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Sources(mut sources) => {
                sources.retain(|s| !self.deleted.contains(&s.uid));
                Answer::Sources(sources)
            }
            Answer::Snapshots(mut snapshots) => {
                snapshots.retain(|s| {
                    !s.owner_uid.as_ref().is_some_and(|uid| self.deleted.contains(uid))
                });
                Answer::Snapshots(snapshots)
            }
            // A write that was only recorded shows in no other answer.
            same @ (Answer::Now(_)
            | Answer::Sleep(_)
            | Answer::Step(_)
            | Answer::Note(_)
            | Answer::AskPerson(_)
            | Answer::Identity(_)
            | Answer::Access(_)
            | Answer::Token(_)
            | Answer::Policies(_)
            | Answer::Lease(_)
            | Answer::Leftovers(_)
            | Answer::FluxOwners(_)
            | Answer::FluxGet(_)
            | Answer::Destinations(_)
            | Answer::Claims(_)
            | Answer::FindDriver(_)
            | Answer::Pods(_)
            | Answer::ListObjects(_)
            | Answer::GetObject(_)
            | Answer::LogPage(_)
            | Answer::AwaitRollout(_)
            | Answer::AcquireLease(_)
            | Answer::ReleaseLease(())
            | Answer::Suspend(_)
            | Answer::Resume(_)
            | Answer::Reconcile(_)
            | Answer::Delete(_)
            | Answer::Recreate(_)
            | Answer::Restart(_)) => same,
        }
    }

    /// Why a plan cannot answer this look, if it cannot.
    pub fn ends(&self, look: &Look) -> Option<&'static str> {
        match look {
            Look::AwaitRollout(_) => Some("the restart has to happen before it can be awaited"),
            Look::Identity(_)
            | Look::Access(_)
            | Look::Token(_)
            | Look::Policies(_)
            | Look::Lease(_)
            | Look::Leftovers(_)
            | Look::FluxOwners(_)
            | Look::FluxGet(_)
            | Look::Sources(_)
            | Look::Destinations(_)
            | Look::Claims(_)
            | Look::Snapshots(_)
            | Look::FindDriver(_)
            | Look::Pods(_)
            | Look::ListObjects(_)
            | Look::GetObject(_)
            | Look::LogPage(_) => None,
        }
    }
}

/// What a write would be answered, met by `prior`.
pub fn predict(touch: &Touch, prior: &Prior, now: Millis) -> Answer {
    match touch {
        // A plan takes nothing from anybody.
        Touch::AcquireLease(_) => {
            Answer::AcquireLease(Acquired { namespace: String::new(), uid: String::new() })
        }
        Touch::ReleaseLease(_) => Answer::ReleaseLease(()),
        Touch::Suspend(s) => {
            Answer::Suspend(s.targets.iter().map(|target| held(target, prior)).collect())
        }
        Touch::Resume(r) => Answer::Resume(Resumed { restored: r.prior, taken_over: None }),
        Touch::Reconcile(_) => Answer::Reconcile(Reconciled {
            handled: false,
            ready: false,
            message: "not asked: this is a plan".into(),
        }),
        Touch::Delete(d) => {
            let gone = |f: &Frozen| Deletion {
                object: f.object.clone(),
                uid: f.uid.clone(),
                end: End::Deleted,
                message: None,
            };
            Answer::Delete(d.set.iter().map(gone).collect())
        }
        Touch::Recreate(r) => Answer::Recreate(
            r.set
                .iter()
                .map(|m| Made { object: m.object.clone(), end: MadeEnd::Made, message: None })
                .collect(),
        ),
        Touch::Restart(_) => Answer::Restart(Restarted { at: now, old_pods: vec![] }),
    }
}

/// What a suspend of this object will have come to: it is left alone where nothing was read that could be sent.
fn held(target: &FluxRef, prior: &Prior) -> Hold {
    let end = match prior.of(target) {
        Some(object) => HoldEnd::Suspended(Suspended {
            uid: object["metadata"]["uid"].as_str().unwrap_or_default().into(),
            prior: was(object),
        }),
        None => HoldEnd::LeftAlone("somebody has suspended it already".into()),
    };
    Hold { target: target.clone(), end }
}

/// `spec.suspend` as the manifest has it: three states.
pub fn was(object: &serde_json::Value) -> Was {
    match object["spec"].get("suspend").and_then(serde_json::Value::as_bool) {
        None => Was::Absent,
        Some(false) => Was::False,
        Some(true) => Was::True,
    }
}
