//! How a run ends: what is suspended is given back, then the verdict is found in the run's own record.

use super::write::{merge, whole};
use super::{Mode, Run, recorded_form};
use crate::backend::ApplyOutcome;
use salve_core::effect::host::{Acquired, LEASE};
use salve_core::effect::{Effect, TypedCall, Write};
use salve_core::journal::{
    Closed, Entry, Failure, GuestExit, GuestExited, Opened, Origin, RunResult,
};
use salve_core::outcome::{Error, Fault};
use salve_core::proof;
use salve_core::report::{Concluded, State, Verdict};
use std::time::{Duration, Instant};

/// How long releases are tried without one of them coming through.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// How long one try may take.
pub(super) const TRY: Duration = Duration::from_secs(10);
/// And when somebody insists on going.
pub(super) const HURRY: Duration = Duration::from_secs(2);

impl Run {
    /// Ends the run: gives back what is still suspended, judges, and writes the verdict.
    ///
    /// # Guarantees
    /// Every open suspension is released whatever the ending is, or stands in the closing with the
    /// verdict `left-open`. `fixed` stands only where this run's own record proves it.
    pub async fn finish(mut self, ending: GuestExit) -> RunResult {
        // Of a run that was taken up, whatever it did not come to: what it holds stands there.
        self.record.pass(&mut self.state);
        let at = self.context.clock.now();
        if self.state.ended.is_none() {
            // A journal that failed cannot keep a release from happening; the closing still tells.
            let _ = self
                .append(Entry::GuestExited(Box::new(GuestExited { at, ending: ending.clone() })));
        }
        if self.context.mode == Mode::Live {
            self.settle().await;
            // mutant failed-guest-not-released: self.release().await; ~> if !matches!(ending,
            //     GuestExit::Failed(_)) { self.release().await; }
            self.release().await;
            // mutant lease-not-released: self.let_the_cluster_go().await; ~> if self.is_plan {
            //     self.let_the_cluster_go().await; }
            self.let_the_cluster_go().await;
        }
        let closing = self.judge(&ending);
        match self.append(Entry::Verdict(Box::new(closing.clone()))).and_then(|()| self.sync()) {
            Ok(()) => closing,
            // What the file does not hold is no success.
            // mutant verdict-survives-failed-write: self.judge(&ending) ~> closing
            Err(_) => self.judge(&ending),
        }
    }

    /// Finds out what became of writes that nobody waited for. What cannot be found out stays in doubt.
    async fn settle(&mut self) {
        for opened in self.state.in_doubt.values().cloned().collect::<Vec<_>>() {
            let Opened { n, origin, effect: Effect::Write(write), observed, .. } = opened else {
                continue;
            };
            // A release that is in doubt is simply made again.
            if let Write::Resume(_) = write {
                continue;
            }
            let footprint = self.footprint(&Effect::Write(write.clone()));
            let timeout = if self.context.stop.insisted() { HURRY } else { TRY };
            let backend = self.context.backend.clone();
            let answer =
                match tokio::time::timeout(timeout, backend.settle(&write, &observed, &footprint))
                    .await
                {
                    Ok(ApplyOutcome::Done(Ok(answer))) => Ok(answer),
                    Ok(ApplyOutcome::Conflict { completed, message, .. }) => whole(
                        &write,
                        merge(&write, None, completed),
                        Err(Error::Unavailable(format!("nobody waited for it: {message}"))),
                        true,
                        false,
                    ),
                    Ok(ApplyOutcome::Done(Err(_))) | Err(_) => continue,
                };
            if let Ok(outcome) = recorded_form(&answer) {
                let closed = Closed {
                    n,
                    at: self.context.clock.now(),
                    outcome: Some(outcome),
                    conflict: None,
                    settled: true,
                };
                drop(self.append_for(origin, Entry::Closed(closed)));
            }
        }
    }

    async fn release(&mut self) {
        let stop = self.context.stop.clone();
        let mut pause = Duration::from_secs(1);
        // Both clocks: a simulated cluster's runs ahead, a silent one's stands still.
        let (mut began, mut moment) = (Instant::now(), self.context.clock.now());
        loop {
            let hurried = stop.insisted();
            for id in self.state.suspensions.still_open() {
                let Some(release) = self.state.suspensions.release(id).cloned() else { continue };
                let hurry = stop.insisted();
                let tried = tokio::select! {
                    tried = tokio::time::timeout(if hurry { HURRY } else { TRY }, self.execute(release.effect(), Origin::Host)) => tried,
                    // Who insists while this try hangs gets a short one, and then none.
                    () = stop.reached(if hurry { 3 } else { 2 }) => continue,
                };
                if let Ok(Ok((_, Ok(_)))) = tried {
                    (began, moment) = (Instant::now(), self.context.clock.now());
                }
                let over = began.elapsed() >= TIMEOUT
                    || u128::from(self.context.clock.now().saturating_sub(moment))
                        >= TIMEOUT.as_millis();
                if over || stop.level() >= 3 {
                    return;
                }
            }
            match (self.state.suspensions.still_open().is_empty(), stop.insisted(), hurried) {
                (true, _, _) | (_, true, true) => return,
                // Somebody insisted during this pass: what it gave up on gets one short try more.
                (false, true, false) => continue,
                (false, false, _) => {}
            }
            self.context.clock.sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(8));
        }
    }

    pub(super) fn judge(&self, ending: &GuestExit) -> RunResult {
        let open = if self.is_plan { vec![] } else { self.state.suspensions.releases() };
        let (mut verdict, mut summary) = match ending {
            GuestExit::Diagnosed(d) => match d.state {
                State::Incident => (Verdict::NotFixed, d.summary.clone()),
                State::DifferentProblem => (Verdict::DifferentProblem, d.summary.clone()),
                State::Healthy => (Verdict::NothingToDo, d.summary.clone()),
            },
            GuestExit::Concluded(c) => match c.verdict {
                Concluded::Fixed => match proof::holds(&self.state.facts, &c.proof) {
                    Ok(()) => (Verdict::Fixed, c.summary.clone()),
                    // mutant fixed-without-proof: Verdict::NotFixed ~> Verdict::Fixed
                    Err(why) => {
                        (Verdict::NotFixed, format!("the guest says \"{}\", but {why}", c.summary))
                    }
                },
                Concluded::NothingToDo => (Verdict::NothingToDo, c.summary.clone()),
                Concluded::DifferentProblem => (Verdict::DifferentProblem, c.summary.clone()),
                Concluded::NotFixed => (Verdict::NotFixed, c.summary.clone()),
            },
            GuestExit::Undone(c) => match c.verdict {
                Concluded::NothingToDo => (Verdict::NothingToDo, c.summary.clone()),
                Concluded::Fixed => (Verdict::Undone, c.summary.clone()),
                Concluded::NotFixed | Concluded::DifferentProblem => {
                    (Verdict::NotFixed, c.summary.clone())
                }
            },
            GuestExit::PlanEnds(why) => (Verdict::Planned, why.clone()),
            GuestExit::Stopped(Some(step)) => {
                (Verdict::NotFixed, format!("stopped by you during `{step}`"))
            }
            GuestExit::Stopped(None) => (Verdict::NotFixed, "stopped by you".into()),
            GuestExit::Died(step) => {
                let during =
                    step.as_ref().map(|step| format!(" during `{step}`")).unwrap_or_default();
                (
                    Verdict::NotFixed,
                    format!(
                        "its process died{during}; what it had suspended was given back, and nothing else was done"
                    ),
                )
            }
            GuestExit::Failed(failure) => (self.verdict_of(failure), failure.text.clone()),
        };
        if let Some(broken) = &self.broken {
            verdict = Verdict::Failed(Fault::Host);
            summary = format!("{broken}; {summary}");
        }
        // mutant open-suspension-not-reported: is_empty() ~> is_empty() && self.is_plan
        if !open.is_empty() {
            verdict = Verdict::ActionRequired;
            let names: Vec<_> = open.iter().map(|o| o.target.to_string()).collect();
            summary = format!("still suspended by this run: {}; {summary}", names.join(", "));
        }
        let asked = self
            .state
            .lease_asked
            .as_ref()
            .map(|namespace| Acquired { namespace: namespace.clone(), uid: String::new() });
        let lease = self.state.lease.clone().or(asked).filter(|_| !self.is_plan);
        if let Some(lease) = &lease {
            verdict = Verdict::ActionRequired;
            let holds = if lease.uid.is_empty() { "may still hold" } else { "still holds" };
            summary = format!(
                "this run {holds} the cluster by Lease {}/{LEASE}; {summary}",
                lease.namespace
            );
        }
        let fault = match ending {
            GuestExit::Failed(failure) => Some(failure.fault),
            GuestExit::Diagnosed(_)
            | GuestExit::Concluded(_)
            | GuestExit::Undone(_)
            | GuestExit::PlanEnds(_)
            | GuestExit::Stopped(_)
            | GuestExit::Died(_) => None,
        };
        RunResult { at: self.context.clock.now(), verdict, summary, fault, open, lease }
    }

    fn verdict_of(&self, failure: &Failure) -> Verdict {
        match failure.fault {
            Fault::Grant => Verdict::Denied,
            Fault::Cluster | Fault::Guest | Fault::Host => Verdict::Failed(failure.fault),
        }
    }

    /// How a guest's own error ends a run.
    pub fn ending_of_error(&self, error: &Error) -> GuestExit {
        let fault = match error.fault() {
            // Neither a grant nor the fence said so, then the cluster's own RBAC did.
            Fault::Grant
                if !(error.text().contains("is not granted")
                    || self.state.denials.iter().any(|d| error.text().contains(&d.what))) =>
            {
                Fault::Cluster
            }
            fault => fault,
        };
        GuestExit::Failed(Failure { fault, text: error.to_string() })
    }
}
