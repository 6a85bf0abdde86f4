//! `query-pods`: pods.

use super::told_each;
use crate::bindings::salve::cluster::{query_pods as wit, types};
use crate::state::State;
use salve_core::effect::query_pods as core;

impl wit::Host for State {
    async fn list_pods(
        &mut self,
        namespaces: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<types::Pod>, types::Error>> {
        Ok(told_each(self.ask(core::ListPods { namespaces }).await?))
    }
}
