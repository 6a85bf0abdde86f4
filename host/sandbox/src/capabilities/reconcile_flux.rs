//! `reconcile-flux`: asks a Flux object to reconcile now.

use super::told;
use crate::bindings::salve::cluster::{reconcile_flux as wit, types};
use crate::state::State;
use salve_core::effect::reconcile_flux as core;

impl wit::Host for State {
    async fn reconcile(
        &mut self,
        target: types::FluxRef,
        force: bool,
        wait_seconds: u32,
    ) -> wasmtime::Result<Result<wit::Reconciliation, types::Error>> {
        Ok(told(self.ask(core::Reconcile { target: target.into(), force, wait_seconds }).await?))
    }
}

impl From<core::Reconciliation> for wit::Reconciliation {
    fn from(answer: core::Reconciliation) -> Self {
        Self { handled: answer.handled, ready: answer.ready, message: answer.message }
    }
}
