//! What a plan answers in place of writes, and how later reads show it.
//!
//! A plan is a run of the real guest against real reads: writes are recorded, not sent, and laid over
//! what is read later, until the guest waits for something that only a write could bring.

use crate::Millis;
use crate::effect::delete_replicationsources::{
    Creation, CreationOutcome, Deletion, DeletionOutcome, DeletionTarget,
};
use crate::effect::host::Acquired;
use crate::effect::reconcile_flux::Reconciliation;
use crate::effect::restart_deployment::Restarted;
use crate::effect::shared::FluxRef;
use crate::effect::suspend_flux::{
    PreviousSuspend, Resumed, SuspendOutcome, SuspendResult, Suspended,
};
use crate::effect::{Answer, Read, Write};
use crate::journal::ObservedState;
use std::collections::HashSet;

/// What was recorded instead of performed.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    deleted: HashSet<String>,
    has_writes: bool,
}

impl Overlay {
    /// Something was recorded: from here on, a wait has no end that a plan could know.
    pub fn has_writes(&self) -> bool {
        self.has_writes
    }

    /// Notes a write that was recorded.
    pub fn record(&mut self, write: &Write) {
        self.has_writes = true;
        match write {
            Write::Delete(delete) => {
                self.deleted.extend(delete.set.iter().map(|frozen| frozen.uid.clone()))
            }
            Write::AcquireLease(_)
            | Write::ReleaseLease(_)
            | Write::Suspend(_)
            | Write::Resume(_)
            | Write::Reconcile(_)
            | Write::Recreate(_)
            | Write::Restart(_) => {}
        }
    }

    /// Lays what was recorded over an answer: what would be deleted is gone, and what it owns with it.
    pub fn cover(&self, answer: Answer) -> Answer {
        match answer {
            Answer::ListSources(mut sources) => {
                sources.retain(|s| !self.deleted.contains(&s.uid));
                Answer::ListSources(sources)
            }
            Answer::ListSnapshots(mut snapshots) => {
                snapshots.retain(|s| {
                    !s.owner_uid.as_ref().is_some_and(|uid| self.deleted.contains(uid))
                });
                Answer::ListSnapshots(snapshots)
            }
            // A write that was only recorded shows in no other answer.
            same @ (Answer::Now(_)
            | Answer::Sleep(_)
            | Answer::Step(_)
            | Answer::Note(_)
            | Answer::AskUser(_)
            | Answer::GetIdentity(_)
            | Answer::ReviewAccess(_)
            | Answer::RequestToken(_)
            | Answer::CheckPolicies(_)
            | Answer::Lease(_)
            | Answer::FindLeftovers(_)
            | Answer::FindOwners(_)
            | Answer::GetFluxObject(_)
            | Answer::ListDestinations(_)
            | Answer::ListPvcs(_)
            | Answer::FindDriver(_)
            | Answer::ListPods(_)
            | Answer::ListObjects(_)
            | Answer::GetObject(_)
            | Answer::NextPage(_)
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
    pub fn ends(&self, look: &Read) -> Option<&'static str> {
        match look {
            Read::AwaitRollout(_) => Some("the restart has to happen before it can be awaited"),
            Read::GetIdentity(_)
            | Read::ReviewAccess(_)
            | Read::RequestToken(_)
            | Read::CheckPolicies(_)
            | Read::Lease(_)
            | Read::FindLeftovers(_)
            | Read::FindOwners(_)
            | Read::GetFluxObject(_)
            | Read::ListSources(_)
            | Read::ListDestinations(_)
            | Read::ListPvcs(_)
            | Read::ListSnapshots(_)
            | Read::FindDriver(_)
            | Read::ListPods(_)
            | Read::ListObjects(_)
            | Read::GetObject(_)
            | Read::NextPage(_) => None,
        }
    }
}

/// What a write would be answered, met by `observed`.
pub fn predict(write: &Write, observed: &ObservedState, now: Millis) -> Answer {
    match write {
        // A plan takes nothing from anybody.
        Write::AcquireLease(_) => {
            Answer::AcquireLease(Acquired { namespace: String::new(), uid: String::new() })
        }
        Write::ReleaseLease(_) => Answer::ReleaseLease(()),
        Write::Suspend(s) => {
            Answer::Suspend(s.targets.iter().map(|target| held(target, observed)).collect())
        }
        Write::Resume(r) => Answer::Resume(Resumed { restored: r.previous, taken_over: None }),
        Write::Reconcile(_) => Answer::Reconcile(Reconciliation {
            handled: false,
            ready: false,
            message: "not asked: this is a plan".into(),
        }),
        Write::Delete(d) => {
            let gone = |f: &DeletionTarget| Deletion {
                object: f.object.clone(),
                uid: f.uid.clone(),
                outcome: DeletionOutcome::Deleted,
                message: None,
            };
            Answer::Delete(d.set.iter().map(gone).collect())
        }
        Write::Recreate(r) => Answer::Recreate(
            r.set
                .iter()
                .map(|m| Creation {
                    object: m.object.clone(),
                    outcome: CreationOutcome::Created,
                    message: None,
                })
                .collect(),
        ),
        Write::Restart(_) => Answer::Restart(Restarted { at: now, old_pods: vec![] }),
    }
}

/// What a suspend of this object will have come to: it is left alone where nothing was read that could be sent.
fn held(target: &FluxRef, observed: &ObservedState) -> SuspendResult {
    let outcome = match observed.of(target) {
        Some(object) => SuspendOutcome::Suspended(Suspended {
            uid: object["metadata"]["uid"].as_str().unwrap_or_default().into(),
            previous: was(object),
        }),
        None => SuspendOutcome::AlreadySuspended("somebody has suspended it already".into()),
    };
    SuspendResult { target: target.clone(), outcome }
}

/// `spec.suspend` as the manifest has it: three states.
pub fn was(object: &serde_json::Value) -> PreviousSuspend {
    match object["spec"].get("suspend").and_then(serde_json::Value::as_bool) {
        None => PreviousSuspend::Absent,
        Some(false) => PreviousSuspend::False,
        Some(true) => PreviousSuspend::True,
    }
}
