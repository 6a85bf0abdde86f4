//! What a plan answers in place of writes, and how later reads show it.
//!
//! A plan is a run of the real guest against real reads: writes are recorded, not sent, and laid over
//! what is read later, until the guest waits for something that only a write could bring.

use crate::Millis;
use crate::effect::delete_replicationsources::{Deletion, End};
use crate::effect::reconcile_flux::Reconciled;
use crate::effect::restart_deployment::Restarted;
use crate::effect::suspend_flux::{Prior as Was, Resumed, Suspended};
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

    /// Records a write and predicts its answer.
    pub fn record(&mut self, touch: &Touch, prior: &Prior, now: Millis) -> Answer {
        self.touched = true;
        match touch {
            Touch::Suspend(_) => Answer::Suspend(Suspended { uid: uid(prior, 0), prior: was(prior) }),
            Touch::Resume(r) => Answer::Resume(Resumed { restored: r.prior, taken_over: None }),
            Touch::Reconcile(_) => Answer::Reconcile(Reconciled { handled: false, ready: false, message: "not asked: this is a plan".into() }),
            Touch::Delete(d) => Answer::Delete(
                d.set
                    .iter()
                    .map(|f| {
                        self.deleted.insert(f.uid.clone());
                        Deletion { object: f.object.clone(), uid: f.uid.clone(), end: End::Deleted, message: None }
                    })
                    .collect(),
            ),
            Touch::Restart(_) => Answer::Restart(Restarted { at: now, old_pods: vec![] }),
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
                snapshots.retain(|s| !s.owner_uid.as_ref().is_some_and(|uid| self.deleted.contains(uid)));
                Answer::Snapshots(snapshots)
            }
            // A write that was only recorded shows in no other answer.
            same @ (Answer::Now(_)
            | Answer::Sleep(_)
            | Answer::Step(_)
            | Answer::Note(_)
            | Answer::AskPerson(_)
            | Answer::Identity(_)
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
            | Answer::Suspend(_)
            | Answer::Resume(_)
            | Answer::Reconcile(_)
            | Answer::Delete(_)
            | Answer::Restart(_)) => same,
        }
    }

    /// Why a plan cannot answer this look, if it cannot.
    pub fn ends(&self, look: &Look) -> Option<&'static str> {
        match look {
            Look::AwaitRollout(_) => Some("the restart has to happen before it can be awaited"),
            Look::Identity(_)
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

fn uid(prior: &Prior, n: usize) -> String {
    prior.objects.get(n).and_then(|o| o["metadata"]["uid"].as_str()).unwrap_or_default().into()
}

/// `spec.suspend` as the manifest has it: three states.
pub fn was(prior: &Prior) -> Was {
    match prior.objects.first().and_then(|o| o["spec"].get("suspend")).and_then(serde_json::Value::as_bool) {
        None => Was::Absent,
        Some(false) => Was::False,
        Some(true) => Was::True,
    }
}
