//! `override-fields`: sets a field until the run ends or the guest releases it.

use crate::bindings::salve::cluster::reversals::Reversal;
use crate::bindings::salve::cluster::{override_fields as wit, types};
use crate::state::State;
use salve_core::capability::call::Call as _;
use salve_core::capability::override_fields as core;
use wasmtime::component::Resource;

impl wit::Host for State {
    async fn set(
        &mut self,
        kind: types::Kind,
        object: types::ObjectRef,
        field: String,
        value: i64,
        reason: String,
    ) -> wasmtime::Result<Result<Option<Resource<Reversal>>, types::Error>> {
        let call =
            core::Override { kind: kind.into(), object: object.into(), field, value, reason };
        let targets = call.targets();
        let (outcome, mut reversals) = match self.call_reversible(call).await? {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error.into())),
        };
        Ok(Ok(match outcome {
            core::OverrideOutcome::Set { .. } => Some(reversals.take(&targets[0])?),
            core::OverrideOutcome::Unchanged => None,
        }))
    }
}
