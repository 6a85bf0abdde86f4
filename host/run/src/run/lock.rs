//! The cluster lock: acquired before a run's first write, released last.

use super::{Halt, Run, unwrap};
use salve_core::capability::TypedCall;
use salve_core::capability::cluster_lock::AcquireLease;
use salve_core::journal::Header;
use salve_core::outcome::Error;

/// Limit of the guest's name in the Lease, in characters.
const MAX_NAME: usize = 60;

/// Returns how a run acquires the lock.
pub(super) fn of_run(header: &Header) -> AcquireLease {
    let guest: String = header.guest.name.chars().take(MAX_NAME).collect();
    let user = header.user.as_deref().map(|user| format!(" by {user}")).unwrap_or_default();
    let machine =
        header.machine.as_deref().map(|machine| format!(" on {machine}")).unwrap_or_default();
    let seconds = header.deadline.saturating_sub(header.at) / 1000;
    AcquireLease { run: header.run.clone(), reason: format!("{guest}{user}{machine}"), seconds }
}

impl Run {
    /// Acquires the lock, once per process. Reversals do not need it.
    ///
    /// # Errors
    /// [`Halt::ClusterLocked`] if another run has it, or it cannot be acquired.
    pub(super) async fn acquire_lock(&mut self) -> Result<(), Halt> {
        // mutant lease-not-acquired: if self.locked ~> if true
        if self.locked {
            return Ok(());
        }
        let (_, answer) = self.call_for_host(self.lock.clone().effect()).await?;
        match answer {
            Ok(answer) => {
                unwrap::<AcquireLease>(answer)?;
                self.locked = true;
                Ok(())
            }
            Err(Error::Forbidden(why)) => Err(Halt::ClusterLocked(Error::Forbidden(format!(
                "{why}; a run needs a Lease that keeps other runs from writing, and this account \
                 cannot create it"
            )))),
            // mutant runs-despite-lease: Err(Halt::ClusterLocked(error)) ~> Ok(drop(error))
            Err(error) => Err(Halt::ClusterLocked(error)),
        }
    }
}
