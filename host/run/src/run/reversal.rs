//! Reversible writes and their reversals. The guest has handles; the run has the reversals.

use super::write::ATTEMPTS;
use super::{Halt, Reply, Run, timeout, unwrap, within};
use crate::backend::{Current, ReleaseOutcome};
use salve_core::capability::{Effect, Released, Reversal, TypedCall};
use salve_core::journal::{Closed, Done, Entry, ObservedState, Opened, Origin};
use salve_core::outcome::Error;

impl Run {
    /// Performs a write that has reversals. Returns its answer, and a handle for each reversal.
    ///
    /// # Errors
    /// If it fails for one of its targets, everything that it changed was released.
    pub async fn call_reversible<C: TypedCall>(
        &mut self,
        call: C,
    ) -> Result<Result<(C::Answer, Vec<(u32, Reversal)>), Error>, Halt> {
        let effect = call.effect();
        let (n, answer) = self.call_for_guest(effect.clone()).await?;
        let error = match (&answer, &effect) {
            (Err(error), _) => Some(error.clone()),
            (Ok(answer), Effect::Write(write)) => write.failure(answer).cloned(),
            (Ok(_), Effect::Local(_) | Effect::Read(_) | Effect::Reversal(_)) => None,
        };
        if let Some(error) = error {
            // It may have been applied before it failed. If it was not, releasing costs one read.
            // mutant unknown-suspend-not-released: self.release_all_of(n).await; ~>
            self.release_all_of(n).await;
            return Ok(Err(error));
        }
        let reversals = &self.state.reversals;
        let handle = |id: u32| reversals.get(id).map(|reversal| (id, reversal.clone()));
        let handles = reversals.open_of(n).into_iter().filter_map(handle).collect();
        match answer {
            Ok(answer) => Ok(Ok((unwrap::<C>(answer)?, handles))),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Performs the reversal of a handle. A second call has the same answer and sends nothing.
    ///
    /// # Errors
    /// It failed, and is tried again at the end of the run.
    pub async fn release(&mut self, id: u32) -> Result<Result<Released, Error>, Halt> {
        if let Some(released) = self.state.reversals.released(id) {
            return Ok(Ok(released.clone()));
        }
        let Some(reversal) = self.state.reversals.get(id).cloned() else {
            return Ok(Err(Error::Invalid("there is no such reversal".into())));
        };
        let (_, answer) = self.call_for_guest(Effect::Reversal(reversal.clone())).await?;
        Ok(answer.and_then(|answer| {
            reversal.released(&answer).cloned().ok_or_else(|| {
                Error::Unavailable(format!("{} has the answer of another call", reversal.name()))
            })
        }))
    }

    /// Returns what this run has not taken back; of a plan, what it would have to.
    pub fn open_reversals(&self) -> Vec<Reversal> {
        self.state.reversals.pending().into_iter().map(|pending| pending.reversal).collect()
    }

    /// Releases everything that entry `n` changed. What fails is tried again at the end of the run.
    async fn release_all_of(&mut self, n: u64) {
        // Within a journal that is being replayed, it was released then.
        if !self.cursor.is_over() {
            return;
        }
        self.cursor.pass(&mut self.state);
        for id in self.state.reversals.open_of(n) {
            if let Some(reversal) = self.state.reversals.get(id).cloned() {
                drop(self.call_for_host(Effect::Reversal(reversal)).await);
            }
        }
    }

    /// Records a reversal that a plan does not send.
    pub(super) fn plan_reversal(&mut self, n: u64, reversal: Reversal) -> Result<Reply, Halt> {
        let answer = Ok(reversal.wrap(Released { taken_over: None }));
        let entry = Entry::Planned(Box::new(Done {
            n,
            origin: Origin::Guest,
            at: self.context.clock.now(),
            effect: Effect::Reversal(reversal),
            outcome: super::journal_form(&answer)?,
            denial: None,
            observed: Some(ObservedState::default()),
            from_plan: None,
        }));
        self.append(entry, answer.as_ref().ok())?;
        Ok((n, answer))
    }

    /// Reads, opens, and releases, again after each conflict. `first` is the number of the first
    /// attempt.
    pub(super) async fn perform_reversal(
        &mut self,
        n: u64,
        origin: Origin,
        reversal: Reversal,
        first: u32,
    ) -> Result<Reply, Halt> {
        let effect = Effect::Reversal(reversal.clone());
        let (footprint, limit) = (self.footprint(&effect), timeout(&effect));
        let backend = self.context.backend.clone();
        let in_doubt = self.state.reversals.in_doubt(&reversal);
        // A reversal in doubt was opened by an earlier process.
        let mut opened = first > 1;
        let mut result = Err(Error::Conflict("not tried".into()));
        for attempt in first..first + ATTEMPTS {
            let read = backend.read_reversal(&reversal, in_doubt.as_deref(), &footprint);
            let observed = match within(limit, read).await {
                Ok(Current::Ready(observed)) => observed,
                Ok(Current::AlreadyDone(released)) => {
                    result = Ok(released);
                    break;
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            let entry = Entry::Opened(Box::new(Opened {
                n,
                origin,
                attempt,
                at: self.context.clock.now(),
                effect: effect.clone(),
                observed: observed.clone(),
            }));
            // Sent even if it cannot be recorded: unrecorded is better than never restored.
            // mutant unrecorded-resume-not-sent: drop(self.append(entry, None)) ~>
            //     self.append(entry, None)?
            drop(self.append(entry, None));
            opened = true;
            let release = backend.release(&reversal, &observed, &footprint);
            let released = tokio::select! {
                released = tokio::time::timeout(limit, release) => released,
                () = self.context.stop.wait_insisted(), if origin == Origin::Guest => {
                    return Err(Halt::Stopped);
                }
            };
            match released {
                Ok(ReleaseOutcome::Done(done)) => {
                    result = done;
                    break;
                }
                Ok(ReleaseOutcome::Conflict(message)) => {
                    let closed = Closed {
                        n,
                        at: self.context.clock.now(),
                        outcome: None,
                        conflict: Some(message.clone()),
                        in_doubt: false,
                        resolved: false,
                    };
                    self.append_for(origin, Entry::Closed(closed), None)?;
                    result = Err(Error::Conflict(message));
                }
                Err(_) => {
                    result = Err(Error::Unavailable(format!(
                        "no response within {} s; the outcome is unknown",
                        limit.as_secs()
                    )));
                    break;
                }
            }
        }
        // The host tries until it succeeds. One entry per cause says as much as thousands.
        let is_repeated = result.as_ref().is_err_and(|error| {
            let mut failed = self.state.failed_reversals.iter();
            failed.any(|(known, before)| *known == reversal && before == error)
        });
        let answer = result.map(|released| reversal.wrap(released));
        if opened {
            self.closed(n, origin, answer)
        } else if origin == Origin::Host && is_repeated {
            Ok((n, answer))
        } else {
            self.done(n, origin, effect, answer)
        }
    }
}
