//! `reconcile-flux`: requests a reconciliation of a Flux object.

use super::into_wit;
use crate::bindings::salve::cluster::{reconcile_flux as wit, types};
use crate::state::State;
use salve_core::capability::reconcile_flux as core;

impl wit::Host for State {
    async fn reconcile(
        &mut self,
        target: types::FluxRef,
        force: bool,
        wait_seconds: u32,
    ) -> wasmtime::Result<Result<wit::Reconciliation, types::Error>> {
        Ok(into_wit(
            self.call(core::Reconcile { target: target.into(), force, wait_seconds }).await?,
        ))
    }
}

impl From<core::Reconciliation> for wit::Reconciliation {
    fn from(answer: core::Reconciliation) -> Self {
        Self { handled: answer.handled, ready: answer.ready, message: answer.message }
    }
}
