//! `reversals`: what a run can take back. The run owns each reversal; a handle is its number.

use super::into_wit;
use crate::bindings::salve::cluster::{reversals as wit, types};
use crate::guest_error::InternalError;
use crate::state::State;
use salve_core::capability::{Reversal, Target, TypedCall};
use salve_core::outcome::Error;
use wasmtime::component::Resource;

impl wit::Host for State {}

impl wit::HostReversal for State {
    async fn release(
        &mut self,
        handle: Resource<wit::Reversal>,
    ) -> wasmtime::Result<Result<Option<String>, types::Error>> {
        self.last_note = None;
        let released = self.run.release(handle.rep()).await?;
        Ok(into_wit(released.map(|released| released.taken_over)))
    }

    async fn drop(&mut self, handle: Resource<wit::Reversal>) -> wasmtime::Result<()> {
        self.release_handles(1);
        // Dropping has no result. If this fails, the change stays in effect and the host takes it
        // back at the end of the run.
        let _answer = self.run.release(handle.rep()).await?;
        Ok(())
    }
}

/// The reversals of one write that the guest has no handle for yet.
pub(crate) struct NewReversals(Vec<(u32, Reversal)>);

impl NewReversals {
    /// Returns the guest's handle for the reversal of this object.
    ///
    /// # Errors
    /// The run has none, or the guest already has its handle.
    pub(crate) fn take(&mut self, target: &Target) -> wasmtime::Result<Resource<wit::Reversal>> {
        let of_target = |(_, reversal): &(u32, Reversal)| reversal.targets().contains(target);
        let position = self.0.iter().position(of_target).ok_or_else(|| {
            InternalError(format!("the run has no reversal of its change to {target}"))
        })?;
        Ok(Resource::new_own(self.0.swap_remove(position).0))
    }
}

impl State {
    /// Passes a write that has reversals to the run. The guest gets a handle for each of them, with
    /// [`NewReversals::take`].
    pub(crate) async fn call_reversible<C: TypedCall>(
        &mut self,
        call: C,
    ) -> wasmtime::Result<Result<(C::Answer, NewReversals), Error>> {
        // Reserved first: each reversal must get a handle.
        let wanted = call.targets().len();
        if let Err(error) = self.reserve_handles(wanted) {
            return Ok(Err(error));
        }
        self.last_note = None;
        let answer = self.run.call_reversible(call).await?;
        let used = answer.as_ref().map_or(0, |(_, reversals)| reversals.len());
        self.release_handles(wanted.saturating_sub(used));
        Ok(answer.map(|(answer, reversals)| (answer, NewReversals(reversals))))
    }
}
