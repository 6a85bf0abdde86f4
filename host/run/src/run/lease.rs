//! Holding the cluster: before the guest's first touch, until the run is over. One run at a time changes a cluster.

use super::ending::{HURRY, TRY};
use super::{Halt, Run, taken};
use salve_core::effect::host::{AcquireLease, Lease, ReleaseLease};
use salve_core::effect::{Ask, Touch};
use salve_core::journal::{Header, Origin};
use salve_core::outcome::Error;
use std::time::Duration;

/// How often giving it back is tried.
const TRIES: u32 = 3;
/// So much of the guest's own name is shown to whoever meets the Lease.
const NAME: usize = 60;

/// What a run asks for the Lease with.
pub(super) fn hold(header: &Header) -> AcquireLease {
    let guest: String = header.guest.name.chars().take(NAME).collect();
    let user = header.user.as_deref().map(|user| format!(" by {user}")).unwrap_or_default();
    let machine =
        header.machine.as_deref().map(|machine| format!(" on {machine}")).unwrap_or_default();
    let seconds = header.deadline.saturating_sub(header.at) / 1000;
    AcquireLease { run: header.run.clone(), reason: format!("{guest}{user}{machine}"), seconds }
}

impl Run {
    /// Takes the cluster, once in a process. Giving back what is suspended needs no leave.
    ///
    /// # Errors
    /// [`Halt::Held`] where another run has it: nothing of this one is sent.
    pub(super) async fn hold_the_cluster(&mut self, touch: &Touch) -> Result<(), Halt> {
        // mutant lease-not-acquired: matches!(touch, Touch::Resume(_)) ~> !matches!(touch,
        //     Touch::ReleaseLease(_))
        if self.holds || matches!(touch, Touch::Resume(_)) {
            return Ok(());
        }
        let (_, answer) = Box::pin(self.carry(self.hold.clone().effect(), Origin::Host)).await?;
        match answer {
            Ok(answer) => {
                taken::<AcquireLease>(answer)?;
                self.holds = true;
                Ok(())
            }
            Err(Error::Denied(why)) => Err(Halt::Held(Error::Denied(format!(
                "{why}; two runs at once are kept apart by a Lease, which this account may not take"
            )))),
            // mutant runs-despite-lease: (error) => Err(Halt::Held(error)) ~> (_) => Ok(())
            Err(error) => Err(Halt::Held(error)),
        }
    }

    /// Gives the cluster back. Whether the run has it is asked where no answer said so, and of a run that another process began: that may
    /// have been lost with the machine.
    pub(super) async fn let_the_cluster_go(&mut self) {
        for tried in 0..TRIES {
            let patience = if self.setting.stop.insisted() { HURRY } else { TRY };
            let ended = tokio::time::timeout(patience, self.try_to_let_it_go()).await;
            if matches!(ended, Ok(Ok(()))) {
                return;
            }
            if tried + 1 < TRIES {
                self.setting.clock.sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn try_to_let_it_go(&mut self) -> Result<(), Error> {
        let halted = |halt: Halt| Error::Unavailable(halt.to_string());
        // mutant unanswered-lease-forgotten: lease_asked.is_some() || self.state.lease ~> lease
        if self.state.lease_asked.is_some() || self.state.lease.is_none() && self.taken_up {
            let (_, answer) = self.carry(Lease {}.effect(), Origin::Host).await.map_err(halted)?;
            let holder = taken::<Lease>(answer?).map_err(halted)?;
            if holder.is_some_and(|holder| holder.run == self.hold.run) {
                // What is ours already is not taken again, but known then.
                let (_, answer) =
                    self.carry(self.hold.clone().effect(), Origin::Host).await.map_err(halted)?;
                answer?;
            }
        }
        let Some(lease) = self.state.lease.clone() else { return Ok(()) };
        let (_, answer) = self
            .carry(
                ReleaseLease { namespace: lease.namespace, uid: lease.uid }.effect(),
                Origin::Host,
            )
            .await
            .map_err(halted)?;
        answer.map(|_| ())
    }
}
