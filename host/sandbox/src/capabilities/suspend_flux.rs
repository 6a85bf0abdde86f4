//! `suspend-flux`: a suspension is the run's; the guest holds its number.

use super::{each, told, told_each};
use crate::bindings::salve::cluster::{suspend_flux as wit, types};
use crate::state::State;
use salve_core::effect::suspend_flux as core;
use salve_run::GuestSuspension;
use wasmtime::component::Resource;

/// What a guest's handle stands for: the number of a suspension of its run.
pub enum Suspension {}

impl wit::Host for State {
    async fn suspend(
        &mut self,
        targets: Vec<types::FluxRef>,
        reason: String,
        drain_seconds: u32,
    ) -> wasmtime::Result<Result<Vec<wit::SuspendResult>, types::Error>> {
        // The places first: what was suspended must have a handle.
        let wanted = targets.len();
        if let Err(error) = self.reserve_handles(wanted) {
            return Ok(Err(error.into()));
        }
        self.last_note = None;
        let answer = self
            .run
            .suspend(core::Suspend { targets: each(targets), reason, drain_seconds })
            .await?;
        let taken = answer.as_ref().map_or(0, |holds| {
            holds.iter().filter(|held| matches!(held, GuestSuspension::Suspended(_))).count()
        });
        self.release_handles(wanted - taken);
        Ok(told_each(answer))
    }
}

impl wit::HostSuspension for State {
    async fn resume(
        &mut self,
        suspension: Resource<Suspension>,
    ) -> wasmtime::Result<Result<wit::Resumed, types::Error>> {
        self.last_note = None;
        Ok(told(self.run.resume(suspension.rep()).await?))
    }

    async fn drop(&mut self, suspension: Resource<Suspension>) -> wasmtime::Result<()> {
        self.release_handles(1);
        // Without an answer by contract: what is not released now stays in the run, which ends by releasing it.
        let _answer = self.run.resume(suspension.rep()).await?;
        Ok(())
    }
}

impl From<GuestSuspension> for wit::SuspendResult {
    fn from(held: GuestSuspension) -> Self {
        match held {
            GuestSuspension::Suspended(id) => Self::Suspended(Resource::new_own(id)),
            GuestSuspension::AlreadySuspended(why) => Self::AlreadySuspended(why),
        }
    }
}

impl From<core::Resumed> for wit::Resumed {
    fn from(resumed: core::Resumed) -> Self {
        Self { restored: resumed.restored.into(), taken_over: resumed.taken_over }
    }
}

impl From<core::PreviousSuspend> for wit::PreviousSuspend {
    fn from(observed: core::PreviousSuspend) -> Self {
        match observed {
            core::PreviousSuspend::Absent => Self::Absent,
            core::PreviousSuspend::False => Self::False,
            core::PreviousSuspend::True => Self::True,
        }
    }
}
