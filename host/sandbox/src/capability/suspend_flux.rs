//! `suspend-flux`: suspends Flux objects until the run ends or the guest releases them.

use super::convert_all;
use super::reversals::NewReversals;
use crate::bindings::salve::cluster::{suspend_flux as wit, types};
use crate::guest_error::InternalError;
use crate::state::State;
use salve_core::capability::suspend_flux as core;

impl wit::Host for State {
    async fn suspend(
        &mut self,
        targets: Vec<types::FluxRef>,
        reason: String,
        drain_seconds: u32,
    ) -> wasmtime::Result<Result<Vec<wit::SuspendResult>, types::Error>> {
        let call = core::Suspend { targets: convert_all(targets), reason, drain_seconds };
        let (results, mut reversals) = match self.call_reversible(call).await? {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error.into())),
        };
        let results = results.into_iter().map(|result| with_handle(result, &mut reversals));
        Ok(Ok(results.collect::<wasmtime::Result<_>>()?))
    }
}

fn with_handle(
    result: core::SuspendResult,
    reversals: &mut NewReversals,
) -> wasmtime::Result<wit::SuspendResult> {
    match result.outcome {
        core::SuspendOutcome::Suspended(_) => {
            Ok(wit::SuspendResult::Suspended(reversals.take(&result.target.target())?))
        }
        core::SuspendOutcome::AlreadySuspended(why) => {
            Ok(wit::SuspendResult::AlreadySuspended(why))
        }
        core::SuspendOutcome::Failed { .. } | core::SuspendOutcome::NotTried => {
            // The run answers with an error, which applies to the whole set.
            Err(InternalError(format!("{} was not suspended, without an error", result.target))
                .into())
        }
    }
}
