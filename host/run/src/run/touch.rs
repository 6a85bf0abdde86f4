//! A touch: prepared, opened in the journal, performed, closed. In a plan: prepared, and recorded only.

use super::deciding::Granted;
use super::{Halt, Reply, Run, patience, recorded_form, within};
use crate::backend::{Acted, Prepared};
use salve_core::approval::{Approved, Difference};
use salve_core::effect::delete_replicationsources::{
    Deletion, End, Frozen, Made, MadeEnd, Manifest,
};
use salve_core::effect::suspend_flux::{Hold, HoldEnd};
use salve_core::effect::{Answer, Effect, Touch};
use salve_core::journal::{Closed, Done, Entry, Opened, Origin, Prior};
use salve_core::outcome::Error;
use salve_core::plan;
use std::time::Duration;

/// How often a write is prepared anew after a conflict.
const ATTEMPTS: u32 = 5;
/// How long it may take to find out what became of a write that did not answer in time.
const SETTLING: Duration = Duration::from_secs(30);

/// Where a write stands before its next attempt.
pub(super) struct Attempts {
    /// What is left of it.
    pub rest: Touch,
    /// What was applied of it.
    pub sofar: Option<Answer>,
    /// What `prepare` has to know of what went before.
    pub before: Option<Prior>,
    /// What the last entry on the disk holds.
    pub opened: Option<Prior>,
    /// The number of the next attempt.
    pub first: u32,
    /// What the guest was granted; none for the host's own.
    pub granted: Option<Granted>,
}

impl Run {
    pub(super) async fn plan(
        &mut self,
        n: u64,
        touch: Touch,
        granted: Option<Granted>,
    ) -> Result<Reply, Halt> {
        let effect = Effect::Touch(touch.clone());
        let footprint = self.footprint(&effect);
        if let Touch::Resume(_) = touch {
            return self.planned(n, touch, Prior::default());
        }
        let backend = self.setting.backend.clone();
        match within(patience(&effect), backend.prepare(&touch, None, &footprint)).await {
            Err(error) => self.done(n, Origin::Guest, effect, Err(error)),
            Ok(Prepared::Settled(answer)) => self.done(n, Origin::Guest, effect, Ok(answer)),
            Ok(Prepared::Ready(prior)) => {
                if let Some(mut granted) = granted
                    && let Err(denial) =
                        self.decide_met(&mut granted, &touch, &prior.objects, true).await?
                {
                    return self.denied(n, effect, denial, Some(prior));
                }
                self.planned(n, touch, prior)
            }
        }
    }

    fn planned(&mut self, n: u64, touch: Touch, prior: Prior) -> Result<Reply, Halt> {
        let at = self.setting.clock.now();
        let answer = plan::predict(&touch, &prior, at);
        let outcome = recorded_form(&Ok(answer.clone()))?;
        let done = Done {
            n,
            origin: Origin::Guest,
            at,
            effect: Effect::Touch(touch),
            outcome,
            denial: None,
            prior: Some(prior),
            from_plan: None,
        };
        self.write(Entry::Planned(Box::new(done)))?;
        Ok((n, Ok(answer)))
    }

    /// `granted` is the guest's; the host's own touches need none.
    pub(super) async fn touch(
        &mut self,
        n: u64,
        origin: Origin,
        touch: Touch,
        granted: Option<Granted>,
    ) -> Result<Reply, Halt> {
        if origin == Origin::Guest {
            self.hold_the_cluster(&touch).await?;
        }
        let from = Attempts {
            rest: touch.clone(),
            sofar: None,
            before: self.before(&touch),
            opened: None,
            first: 1,
            granted,
        };
        self.attempts(n, origin, touch, from).await
    }

    pub(super) async fn attempts(
        &mut self,
        n: u64,
        origin: Origin,
        touch: Touch,
        from: Attempts,
    ) -> Result<Reply, Halt> {
        let effect = Effect::Touch(touch.clone());
        let footprint = self.footprint(&effect);
        let backend = self.setting.backend.clone();
        let Attempts { mut rest, mut sofar, mut before, mut opened, first, mut granted } = from;
        // Whether the last attempt may have been applied, or may yet be, all the same.
        let mut unknown = false;
        let mut answer =
            Err(Error::Conflict(format!("it changed {ATTEMPTS} times while we tried")));
        for attempt in first..first + ATTEMPTS {
            let prior = match within(
                patience(&effect),
                backend.prepare(&rest, before.as_ref(), &footprint),
            )
            .await
            {
                Err(error) => {
                    answer = Err(error);
                    break;
                }
                Ok(Prepared::Settled(settled)) => {
                    self.meets_approval(origin, n, opened.is_some(), |approved| {
                        if attempt == first { approved.is_settled() } else { Ok(()) }
                    })?;
                    answer = Ok(settled);
                    break;
                }
                Ok(Prepared::Ready(prior)) => self.stamped(&touch, prior),
            };
            self.meets_approval(origin, n, opened.is_some(), |approved| {
                approved.meets(&prior, opened.is_some())
            })?;
            if let Some(granted) = &mut granted
                && let Err(denial) =
                    self.decide_met(granted, &rest, &prior.objects, opened.is_none()).await?
            {
                if opened.is_none() {
                    return self.denied(n, effect, denial, Some(prior));
                }
                answer = Err(Error::Denied(denial.to_string()));
                break;
            }
            let at = self.setting.clock.now();
            let entry = Entry::Opened(Box::new(Opened {
                n,
                origin,
                attempt,
                at,
                effect: Effect::Touch(rest.clone()),
                prior: prior.clone(),
            }));
            let written = match (self.write(entry), must_be_synced(&touch, &prior, opened.as_ref()))
            {
                // mutant write-before-sync: self.sync() ~> Ok(())
                (Ok(()), true) => self.sync(),
                (written, _) => written,
            };
            match written {
                Ok(()) => opened = Some(prior.clone()),
                // A release is sent even where it cannot be recorded: frozen for ever is worse than unrecorded.
                // mutant unrecorded-resume-not-sent: Resume ~> Reconcile
                Err(_) if matches!(touch, Touch::Resume(_)) => {}
                // mutant write-after-failed-sync: (halt) => return Err(halt), ~> (_) => {}
                Err(halt) => return Err(halt),
            }
            let acted = tokio::select! {
                acted = tokio::time::timeout(patience(&effect), backend.act(&rest, &prior, &footprint)) => acted,
                // mutant abandoned-write-recorded-as-failed: return Err(Halt::Stopped) ~>
                //     Ok(Acted::Done(Err(Error::Unavailable("stopped".into()))))
                () = self.setting.stop.wait_insisted(), if origin == Origin::Guest => return Err(Halt::Stopped),
            };
            match acted {
                Ok(Acted::Done(done)) => {
                    (unknown, answer) = (done.is_err(), done);
                    break;
                }
                Ok(Acted::Conflict { sofar: part, rest: left, message }) => {
                    self.conflict(n, origin, part.clone(), message.clone())?;
                    sofar = merge(&touch, sofar, part);
                    rest = left;
                    if !matches!(touch, Touch::Resume(_)) {
                        before = Some(prior);
                    }
                    answer = Err(Error::Conflict(message));
                }
                Err(_) => {
                    let late = format!("no answer within {} s", patience(&effect).as_secs());
                    (sofar, answer, unknown) =
                        self.settled_late(&touch, &rest, &prior, sofar, &late).await;
                    break;
                }
            }
        }
        let answer = whole(&touch, sofar, answer, opened.is_some(), unknown);
        match opened {
            Some(_) => self.closed(n, origin, answer),
            None => self.done(n, origin, effect, answer),
        }
    }

    /// What `prepare` has to know of what went before: of a release, what the suspend met whose end is not known.
    pub(super) fn before(&self, touch: &Touch) -> Option<Prior> {
        match touch {
            Touch::Resume(release) => {
                let doubt = self.state.suspensions.doubt(release)?;
                Some(Prior { objects: vec![doubt.clone()], at: self.setting.clock.now() })
            }
            Touch::AcquireLease(_)
            | Touch::ReleaseLease(_)
            | Touch::Suspend(_)
            | Touch::Reconcile(_)
            | Touch::Delete(_)
            | Touch::Recreate(_)
            | Touch::Restart(_) => None,
        }
    }

    /// Stops the guest where its touch meets something else than was approved.
    fn meets_approval(
        &mut self,
        origin: Origin,
        n: u64,
        opened: bool,
        meets: impl FnOnce(&Approved) -> Result<(), Difference>,
    ) -> Result<(), Halt> {
        let Some(Err(difference)) =
            self.as_approved().filter(|_| origin == Origin::Guest).map(meets)
        else {
            return Ok(());
        };
        if opened {
            drop(self.closed(n, origin, Err(Error::Denied(difference.to_string())))?);
        }
        Err(Halt::Differs(difference))
    }

    /// The time that a write carries. A request to reconcile carries one that follows from the run's beginning, so that
    /// one which is sent again after a crash is the same request.
    fn stamped(&self, touch: &Touch, prior: Prior) -> Prior {
        match touch {
            // mutant reconcile-resent-as-new: self.began + self.state.reconciled(&reconcile.target) ~> prior.at
            Touch::Reconcile(reconcile) => {
                Prior { at: self.began + self.state.reconciled(&reconcile.target), ..prior }
            }
            Touch::AcquireLease(_)
            | Touch::ReleaseLease(_)
            | Touch::Suspend(_)
            | Touch::Resume(_)
            | Touch::Delete(_)
            | Touch::Recreate(_)
            | Touch::Restart(_) => prior,
        }
    }

    pub(super) fn conflict(
        &mut self,
        n: u64,
        origin: Origin,
        part: Option<Answer>,
        message: String,
    ) -> Result<(), Halt> {
        let at = self.setting.clock.now();
        let outcome = part.map(|part| recorded_form(&Ok(part))).transpose()?;
        self.write_for(
            origin,
            Entry::Closed(Closed { n, at, outcome, conflict: Some(message), settled: false }),
        )
    }

    /// Finds out what became of a write that did not come to its end in time.
    async fn settled_late(
        &mut self,
        touch: &Touch,
        rest: &Touch,
        prior: &Prior,
        sofar: Option<Answer>,
        late: &str,
    ) -> (Option<Answer>, Result<Answer, Error>, bool) {
        let footprint = self.footprint(&Effect::Touch(touch.clone()));
        let backend = self.setting.backend.clone();
        match tokio::time::timeout(SETTLING, backend.settle(rest, prior, &footprint)).await {
            Ok(Acted::Done(answer)) => (sofar, answer.clone(), answer.is_err()),
            Ok(Acted::Conflict { sofar: part, message, .. }) => (
                merge(touch, sofar, part),
                Err(Error::Unavailable(format!("{late}; {message}"))),
                false,
            ),
            Err(_) => (
                sofar,
                Err(Error::Unavailable(format!("{late}; whether it was applied is not known"))),
                true,
            ),
        }
    }
}

/// Whether the disk has to hold this attempt before it is sent.
fn must_be_synced(touch: &Touch, prior: &Prior, opened: Option<&Prior>) -> bool {
    match touch {
        // Unless an attempt before it has put the same on the disk.
        Touch::AcquireLease(_)
        | Touch::Suspend(_)
        | Touch::Delete(_)
        | Touch::Recreate(_)
        | Touch::Restart(_) => opened.is_none_or(|before| !prior.binds_as(before)),
        // The entry of its suspend stands there, and obliges to it whatever else is lost.
        Touch::Resume(_) => false,
        // What it writes follows from the header.
        Touch::Reconcile(_) => false,
        // Whoever takes the run up asks whether it holds the cluster.
        Touch::ReleaseLease(_) => false,
    }
}

/// Adds what one attempt came to. Only a set can be applied in part.
pub(super) fn merge(touch: &Touch, sofar: Option<Answer>, part: Option<Answer>) -> Option<Answer> {
    match (touch, sofar, part) {
        (Touch::Delete(_), Some(Answer::Delete(mut all)), Some(Answer::Delete(more))) => {
            all.extend(more);
            Some(Answer::Delete(all))
        }
        (Touch::Suspend(_), Some(Answer::Suspend(mut all)), Some(Answer::Suspend(more))) => {
            all.extend(more);
            Some(Answer::Suspend(all))
        }
        (Touch::Recreate(_), Some(Answer::Recreate(mut all)), Some(Answer::Recreate(more))) => {
            all.extend(more);
            Some(Answer::Recreate(all))
        }
        (_, sofar, None) => sofar,
        (_, _, part) => part,
    }
}

/// The whole answer: for a set in its own order, with what never came to an end marked as such.
pub(super) fn whole(
    touch: &Touch,
    sofar: Option<Answer>,
    last: Result<Answer, Error>,
    opened: bool,
    unknown: bool,
) -> Result<Answer, Error> {
    let is_set = match touch {
        Touch::Delete(_) | Touch::Suspend(_) | Touch::Recreate(_) => true,
        Touch::AcquireLease(_)
        | Touch::ReleaseLease(_)
        | Touch::Resume(_)
        | Touch::Reconcile(_)
        | Touch::Restart(_) => false,
    };
    if !is_set {
        return last;
    }
    let (part, why) = match last {
        Ok(answer) => (Some(answer), None),
        // Nothing was sent: the set as a whole came to nothing.
        Err(error) if !opened => return Err(error),
        // Nobody can tell which of the set are suspended: all of it is given back.
        Err(error) if unknown && matches!(touch, Touch::Suspend(_)) => return Err(error),
        Err(error) => (None, Some(error)),
    };
    let parts = merge(touch, sofar, part);
    match (touch, parts) {
        (Touch::Delete(delete), Some(Answer::Delete(deletions))) => Ok(Answer::Delete(
            delete.set.iter().map(|f| deletion(f, &deletions, why.as_ref())).collect(),
        )),
        (Touch::Delete(delete), None) => {
            Ok(Answer::Delete(delete.set.iter().map(|f| deletion(f, &[], why.as_ref())).collect()))
        }
        (Touch::Suspend(suspend), parts) => {
            let holds = match parts {
                Some(Answer::Suspend(holds)) => holds,
                None => vec![],
                Some(_) => return Err(another()),
            };
            let mut failed = false;
            Ok(Answer::Suspend(
                suspend
                    .targets
                    .iter()
                    .map(|target| hold(target, &holds, why.as_ref(), &mut failed))
                    .collect(),
            ))
        }
        (Touch::Recreate(recreate), parts) => {
            let made = match parts {
                Some(Answer::Recreate(made)) => made,
                None => vec![],
                Some(_) => return Err(another()),
            };
            let one = |m: &Manifest| {
                made.iter().find(|one| one.object == m.object).cloned().unwrap_or_else(|| Made {
                    object: m.object.clone(),
                    end: MadeEnd::Refused,
                    message: Some(
                        why.as_ref().map_or_else(
                            || "nothing was said about it".into(),
                            ToString::to_string,
                        ),
                    ),
                })
            };
            Ok(Answer::Recreate(recreate.set.iter().map(one).collect()))
        }
        (
            Touch::AcquireLease(_)
            | Touch::ReleaseLease(_)
            | Touch::Delete(_)
            | Touch::Resume(_)
            | Touch::Reconcile(_)
            | Touch::Restart(_),
            _,
        ) => Err(another()),
    }
}

fn another() -> Error {
    Error::Unavailable("the backend answered a set with another call's answer".into())
}

fn deletion(frozen: &Frozen, deletions: &[Deletion], why: Option<&Error>) -> Deletion {
    deletions
        .iter()
        .find(|d| d.uid == frozen.uid && d.object == frozen.object)
        .cloned()
        .unwrap_or_else(|| Deletion {
            object: frozen.object.clone(),
            uid: frozen.uid.clone(),
            end: if matches!(why, Some(Error::Unavailable(_))) {
                End::Unknown
            } else {
                End::Refused
            },
            message: Some(
                why.map_or_else(|| "nothing was said about it".into(), ToString::to_string),
            ),
        })
}

/// The first that nothing was said about is the one that failed; those after it were not tried.
fn hold(
    target: &salve_core::effect::shared::FluxRef,
    holds: &[Hold],
    why: Option<&Error>,
    failed: &mut bool,
) -> Hold {
    if let Some(known) = holds.iter().find(|hold| hold.target == *target) {
        return known.clone();
    }
    let end = if std::mem::replace(failed, true) {
        HoldEnd::Untried
    } else {
        let error = why
            .cloned()
            .unwrap_or_else(|| Error::Unavailable(format!("nothing was said about {target}")));
        HoldEnd::Failed { error, doubtful: false }
    };
    Hold { target: target.clone(), end }
}
