//! `query-pods`: pods.

use super::list_into_wit;
use crate::bindings::salve::cluster::{query_pods as wit, types};
use crate::state::State;
use salve_core::capability::query_pods as core;

impl wit::Host for State {
    async fn list_pods(
        &mut self,
        namespaces: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<types::Pod>, types::Error>> {
        Ok(list_into_wit(self.call(core::ListPods { namespaces }).await?))
    }
}
