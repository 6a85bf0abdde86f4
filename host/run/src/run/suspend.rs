//! Suspending and giving back: the guest holds numbers, the run holds the suspensions.

use super::{Halt, Run, unwrap_answer};
use salve_core::effect::TypedCall;
use salve_core::effect::suspend_flux::{self, Resume, Resumed, Suspend, SuspendOutcome};
use salve_core::journal::Origin;
use salve_core::outcome::Error;

/// What a guest gets for one object of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestSuspension {
    /// This run holds it, under this number.
    Suspended(u32),
    /// Somebody had suspended it already, and it stays as they want it.
    AlreadySuspended(String),
}

impl Run {
    /// Suspends a set, and keeps each suspension for the guest under a number.
    ///
    /// # Errors
    /// Where one of the set came to nothing, all of it has been given back.
    pub async fn suspend(
        &mut self,
        ask: Suspend,
    ) -> Result<Result<Vec<GuestSuspension>, Error>, Halt> {
        let (n, answer) = self.execute(ask.effect(), Origin::Guest).await?;
        let holds = match answer {
            Ok(answer) => unwrap_answer::<Suspend>(answer)?,
            // It may have been applied before it failed. What was never applied costs one read.
            // mutant unknown-suspend-not-released: self.give_back(n).await; ~>
            Err(error) => {
                self.give_back(n).await;
                return Ok(Err(error));
            }
        };
        if let Some(error) = suspend_flux::failure(&holds) {
            self.give_back(n).await;
            return Ok(Err(error.clone()));
        }
        let number = |hold: &suspend_flux::SuspendResult| match &hold.outcome {
            SuspendOutcome::AlreadySuspended(why) => {
                Ok(GuestSuspension::AlreadySuspended(why.clone()))
            }
            SuspendOutcome::Suspended(_)
            | SuspendOutcome::Failed { .. }
            | SuspendOutcome::NotTried => {
                let id = self.state.suspensions.id(n, &hold.target);
                id.map(GuestSuspension::Suspended).ok_or_else(|| {
                    Halt::Broken(format!(
                        "the backend suspended {}, which it had not read",
                        hold.target
                    ))
                })
            }
        };
        Ok(Ok(holds.iter().map(number).collect::<Result<_, _>>()?))
    }

    /// Gives back what [`Run::suspend`] numbered. A second time answers the same and sends nothing.
    pub async fn resume(&mut self, id: u32) -> Result<Result<Resumed, Error>, Halt> {
        if let Some(answer) = self.state.suspensions.answer(id) {
            return Ok(Ok(answer.clone()));
        }
        let Some(release) = self.state.suspensions.release(id).cloned() else {
            return Ok(Err(Error::Invalid("there is no such suspension".into())));
        };
        let (_, answer) = self.execute(release.effect(), Origin::Guest).await?;
        Ok(match answer {
            Ok(answer) => Ok(unwrap_answer::<Resume>(answer)?),
            Err(error) => Err(error),
        })
    }

    /// What this run has suspended and not given back; of a plan: what it would give back.
    pub fn open(&self) -> Vec<Resume> {
        self.state.suspensions.releases()
    }

    /// Gives back, as the host, what effect `n` has suspended. What cannot be given back now is tried again at the end.
    async fn give_back(&mut self, n: u64) {
        // In the midst of a record, it was given back then.
        if !self.record.is_over() {
            return;
        }
        self.record.pass(&mut self.state);
        for id in self.state.suspensions.open_of(n) {
            if let Some(release) = self.state.suspensions.release(id).cloned() {
                drop(Box::pin(self.execute(release.effect(), Origin::Host)).await);
            }
        }
    }
}
