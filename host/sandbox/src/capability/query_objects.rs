//! `query-objects`: objects of any other kind, as JSON.

use super::into_wit;
use crate::bindings::salve::cluster::{query_objects as wit, types};
use crate::state::State;
use salve_core::capability::query_objects as core;

impl wit::Host for State {
    async fn list_objects(
        &mut self,
        query: wit::Query,
    ) -> wasmtime::Result<Result<wit::Page, types::Error>> {
        let wit::Query { kind, namespace, label_selector, limit, next } = query;
        Ok(into_wit(
            self.call(core::ListObjects {
                kind: kind.into(),
                namespace,
                label_selector,
                limit,
                next,
            })
            .await?,
        ))
    }

    async fn get(
        &mut self,
        kind: types::Kind,
        namespace: Option<String>,
        name: String,
    ) -> wasmtime::Result<Result<String, types::Error>> {
        Ok(into_wit(self.call(core::GetObject { kind: kind.into(), namespace, name }).await?))
    }
}

impl From<core::Page> for wit::Page {
    fn from(page: core::Page) -> Self {
        Self { objects: page.objects, next: page.next }
    }
}
