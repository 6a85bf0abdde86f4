//! Holding the cluster: before the guest's first touch, until the run is over. One run at a time changes a cluster.

use super::finish::{HURRY, TRY};
use super::{Halt, Run, unwrap_answer};
use salve_core::effect::host::{AcquireLease, Lease, ReleaseLease};
use salve_core::effect::{TypedCall, Write};
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
    /// [`Halt::ClusterLocked`] where another run has it: nothing of this one is sent.
    pub(super) async fn hold_the_cluster(&mut self, write: &Write) -> Result<(), Halt> {
        // mutant lease-not-acquired: matches!(write, Write::Resume(_)) ~> !matches!(write,
        //     Write::ReleaseLease(_))
        if self.holds || matches!(write, Write::Resume(_)) {
            return Ok(());
        }
        let (_, answer) = Box::pin(self.execute(self.hold.clone().effect(), Origin::Host)).await?;
        match answer {
            Ok(answer) => {
                unwrap_answer::<AcquireLease>(answer)?;
                self.holds = true;
                Ok(())
            }
            Err(Error::Denied(why)) => Err(Halt::ClusterLocked(Error::Denied(format!(
                "{why}; two runs at once are kept apart by a Lease, which this account may not take"
            )))),
            // mutant runs-despite-lease: (error) => Err(Halt::ClusterLocked(error)) ~> (_) => Ok(())
            Err(error) => Err(Halt::ClusterLocked(error)),
        }
    }

    /// Gives the cluster back. Whether the run has it is asked where no answer said so, and of a run that another process began: that may
    /// have been lost with the machine.
    pub(super) async fn let_the_cluster_go(&mut self) {
        for tried in 0..TRIES {
            let timeout = if self.context.stop.insisted() { HURRY } else { TRY };
            let ended = tokio::time::timeout(timeout, self.try_to_let_it_go()).await;
            if matches!(ended, Ok(Ok(()))) {
                return;
            }
            if tried + 1 < TRIES {
                self.context.clock.sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn try_to_let_it_go(&mut self) -> Result<(), Error> {
        let halted = |halt: Halt| Error::Unavailable(halt.to_string());
        // mutant unanswered-lease-forgotten: lease_asked.is_some() || self.state.lease ~> lease
        if self.state.lease_asked.is_some() || self.state.lease.is_none() && self.is_recovery {
            let (_, answer) =
                self.execute(Lease {}.effect(), Origin::Host).await.map_err(halted)?;
            let holder = unwrap_answer::<Lease>(answer?).map_err(halted)?;
            if holder.is_some_and(|holder| holder.run == self.hold.run) {
                // What is ours already is not taken again, but known then.
                let (_, answer) =
                    self.execute(self.hold.clone().effect(), Origin::Host).await.map_err(halted)?;
                answer?;
            }
        }
        let Some(lease) = self.state.lease.clone() else { return Ok(()) };
        let (_, answer) = self
            .execute(
                ReleaseLease { namespace: lease.namespace, uid: lease.uid }.effect(),
                Origin::Host,
            )
            .await
            .map_err(halted)?;
        answer.map(|_| ())
    }
}
