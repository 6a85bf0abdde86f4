//! How a run ends: everything is taken back, then the verdict is found in the run's own journal.

use super::write::assemble;
use super::{Mode, Run, journal_form};
use crate::backend::ApplyOutcome;
use salve_core::capability::Effect;
use salve_core::journal::{
    Closed, Entry, Failure, GuestExit, GuestExited, Opened, Origin, RunResult,
};
use salve_core::outcome::{Error, Fault};
use salve_core::proof::Verified;
use salve_core::report::{Concluded, Conclusion, State, Verdict};

impl Run {
    /// Ends the run: takes back what is still in effect, and writes the verdict.
    ///
    /// # Guarantees
    /// Every open reversal is performed in every ending, or is in the result with the verdict
    /// `action-required`. The verdict is `fixed` only if the host's own reads after that prove it.
    pub async fn finish(mut self, exit: GuestExit) -> RunResult {
        // What a recovered run did not reach: what it has to take back is there.
        self.cursor.pass(&mut self.state);
        let at = self.context.clock.now();
        if self.state.exit.is_none() {
            // A failed journal does not prevent releases, and the result says that it failed.
            let exited = GuestExited { at, exit: exit.clone() };
            let _ = self.append(Entry::GuestExited(Box::new(exited)), None);
        }
        if self.context.mode == Mode::Live {
            self.resolve_in_doubt().await;
            // mutant failed-guest-not-released: self.release_open(Origin::Guest).await; ~>
            //     if !matches!(exit, GuestExit::Failed(_)) {
            //     self.release_open(Origin::Guest).await; }
            self.release_open(Origin::Guest).await;
            // The cluster lock is last: another run may start once it is released.
            // mutant lease-not-released: self.release_open(Origin::Host).await; ~>
            //     if self.is_plan { self.release_open(Origin::Host).await; }
            self.release_open(Origin::Host).await;
            // The API server may not have responded before.
            if !self.context.stop.insisted() {
                self.resolve_in_doubt().await;
            }
            self.verify(&exit).await;
        }
        self.record_result(&exit)
    }

    /// Writes the verdict. One that is not on disk is not a success.
    fn record_result(&mut self, exit: &GuestExit) -> RunResult {
        let result = self.result_of(exit);
        let entry = Entry::Verdict(Box::new(result.clone()));
        let written = self.context.journal.append(&entry);
        let written = self.check_journal(written).and_then(|()| self.sync());
        let result = match written {
            Ok(()) => result,
            // mutant verdict-survives-failed-write: self.result_of(exit) ~> result
            Err(_) => self.result_of(exit),
        };
        self.observe(&Entry::Verdict(Box::new(result.clone())), None);
        result
    }

    /// Determines the outcome of writes whose response was lost. What cannot be determined stays in
    /// doubt.
    async fn resolve_in_doubt(&mut self) {
        for opened in self.state.in_doubt.values().cloned().collect::<Vec<_>>() {
            // A reversal in doubt is simply performed again.
            let Opened { n, origin, effect: Effect::Write(write), observed, .. } = opened else {
                continue;
            };
            let footprint = self.footprint(&Effect::Write(write.clone()));
            let limit = self.resolve_timeout();
            let backend = self.context.backend.clone();
            let resolve = backend.resolve(&write, &observed, &footprint);
            let answer = match tokio::time::timeout(limit, resolve).await {
                Ok(ApplyOutcome::Done(Ok(answer))) => Ok(answer),
                Ok(ApplyOutcome::Conflict { completed, message, in_doubt: false, .. }) => {
                    let error = Error::Unavailable(format!("its response was lost: {message}"));
                    assemble(&write, completed.into_iter().collect(), Err(error), true, false)
                }
                Ok(ApplyOutcome::Conflict { .. } | ApplyOutcome::Done(Err(_))) | Err(_) => continue,
            };
            if let Ok(outcome) = journal_form(&answer) {
                let closed = Closed {
                    n,
                    at: self.context.clock.now(),
                    outcome: Some(outcome),
                    conflict: None,
                    in_doubt: false,
                    resolved: true,
                };
                drop(self.append_for(origin, Entry::Closed(closed), answer.as_ref().ok()));
            }
        }
    }

    /// Returns the result of a run that ends like this, by its journal alone.
    pub(super) fn result_of(&self, exit: &GuestExit) -> RunResult {
        let (mut verdict, mut summary) = self.verdict_of(exit);
        if let Some(broken) = &self.broken {
            verdict = Verdict::Failed(Fault::Host);
            summary = format!("{broken}; {summary}");
        }
        let open = if self.is_plan { vec![] } else { self.state.reversals.pending() };
        // mutant open-suspension-not-reported: !open.is_empty() ~> !open.is_empty() && self.is_plan
        if !open.is_empty() {
            verdict = Verdict::ActionRequired;
            let active: Vec<String> =
                open.iter().map(|open| open.reversal.still_active(open.in_doubt)).collect();
            summary = format!("{}; {summary}", active.join("; "));
        }
        let fault = match exit {
            GuestExit::Failed(failure) => Some(failure.fault),
            GuestExit::Diagnosed(_)
            | GuestExit::Concluded(_)
            | GuestExit::Restored(_)
            | GuestExit::PlanEnds(_)
            | GuestExit::Stale(_)
            | GuestExit::Stopped(_)
            | GuestExit::Died(_) => None,
        };
        let claims_fixed = matches!(
            exit,
            GuestExit::Concluded(conclusion) if conclusion.verdict == Concluded::Fixed
        );
        let problems = if claims_fixed && !self.is_plan {
            self.state.proof.verified_problems()
        } else {
            vec![]
        };
        RunResult { at: self.context.clock.now(), verdict, summary, fault, open, problems }
    }

    fn verdict_of(&self, exit: &GuestExit) -> (Verdict, String) {
        match exit {
            GuestExit::Diagnosed(diagnosis) => {
                let verdict = match diagnosis.state {
                    State::Incident => Verdict::NotFixed,
                    State::DifferentProblem => Verdict::DifferentProblem,
                    State::Healthy => Verdict::NothingToDo,
                    State::Inconclusive => Verdict::Inconclusive,
                };
                (verdict, diagnosis.summary.clone())
            }
            GuestExit::Concluded(conclusion) => self.verdict_of_conclusion(conclusion),
            GuestExit::Restored(conclusion) => {
                let verdict = match conclusion.verdict {
                    Concluded::NothingToDo => Verdict::NothingToDo,
                    Concluded::Fixed => Verdict::Restored,
                    Concluded::NotFixed | Concluded::DifferentProblem | Concluded::Inconclusive => {
                        Verdict::NotFixed
                    }
                };
                (verdict, conclusion.summary.clone())
            }
            GuestExit::PlanEnds(why) => (Verdict::Planned, format!("plan ends here: {why}")),
            GuestExit::Stale(why) => (Verdict::StalePlan, why.clone()),
            GuestExit::Stopped(Some(step)) => {
                (Verdict::NotFixed, format!("stopped by you during `{step}`"))
            }
            GuestExit::Stopped(None) => (Verdict::NotFixed, "stopped by you".into()),
            GuestExit::Died(step) => {
                let during =
                    step.as_ref().map(|step| format!(" during `{step}`")).unwrap_or_default();
                let except = match self.state.reversals.taken_over() {
                    0 => "",
                    _ => ", except those that someone else took over",
                };
                let summary = format!(
                    "its process died{during}; its temporary changes were taken back{except}, and \
                     nothing else was done"
                );
                (Verdict::NotFixed, summary)
            }
            GuestExit::Failed(failure) => {
                let verdict = match failure.fault {
                    Fault::Grant => Verdict::Denied,
                    Fault::Approval => Verdict::NeedsApproval,
                    Fault::Cluster | Fault::Guest | Fault::Host => Verdict::Failed(failure.fault),
                };
                (verdict, failure.text.clone())
            }
        }
    }

    fn verdict_of_conclusion(&self, conclusion: &Conclusion) -> (Verdict, String) {
        let summary = conclusion.summary.clone();
        match conclusion.verdict {
            // A plan has sent nothing that could be verified.
            Concluded::Fixed if self.is_plan && self.state.planned.any => {
                (Verdict::Planned, summary)
            }
            Concluded::Fixed => {
                let doubtful = |why: String| format!("the guest says \"{summary}\", but {why}");
                match self.state.proof.result() {
                    Verified::Fixed => (Verdict::Fixed, summary),
                    Verified::ResolvedElsewhere => (
                        Verdict::ResolvedElsewhere,
                        format!("{summary}; this run wrote nothing, so something else resolved it"),
                    ),
                    Verified::NotFixed(what) => (Verdict::NotFixed, doubtful(what)),
                    // mutant fixed-without-proof: Verdict::Unverified ~> Verdict::Fixed
                    Verified::Unverified(why) => (Verdict::Unverified, doubtful(why)),
                }
            }
            Concluded::NothingToDo => (Verdict::NothingToDo, summary),
            Concluded::DifferentProblem => (Verdict::DifferentProblem, summary),
            Concluded::NotFixed => (Verdict::NotFixed, summary),
            Concluded::Inconclusive => (Verdict::Inconclusive, summary),
        }
    }

    /// Returns how a guest ends that returned this error.
    pub fn exit_of_error(&self, error: &Error) -> GuestExit {
        let fault = match error {
            // A guest can only pass on a denial. The latest one says whose it was.
            Error::Denied(_) | Error::Forbidden(_) => {
                self.state.last_denial.unwrap_or(Fault::Guest)
            }
            Error::Unauthorized(_)
            | Error::NotFound(_)
            | Error::Conflict(_)
            | Error::Invalid(_)
            | Error::Unavailable(_) => error.fault(),
        };
        let text = match (fault, error) {
            // The verdict says that it was denied.
            (Fault::Grant | Fault::Approval, Error::Denied(text)) => text.clone(),
            (Fault::Grant | Fault::Approval | Fault::Cluster | Fault::Guest | Fault::Host, _) => {
                error.to_string()
            }
        };
        GuestExit::Failed(Failure { fault, text })
    }
}
