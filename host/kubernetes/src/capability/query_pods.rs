//! `query-pods`: the pods of namespaces.

use crate::perform::PerformRead;
use crate::pod;
use crate::resource::PODS;
use crate::send::{ListFilter, MAX_CONCURRENT_REQUESTS, Session, concurrently};
use salve_core::capability::query_pods::ListPods;
use salve_core::capability::types::Pod;
use salve_core::outcome::Error;

/// Lists all pods of the namespaces, sorted by namespace and name.
async fn pods(session: &Session, call: &ListPods) -> Result<Vec<Pod>, Error> {
    let lists = concurrently(
        call.namespaces
            .iter()
            .map(|ns| session.list(&PODS, Some(ns), ListFilter::default()))
            .collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    let mut all = Vec::new();
    for list in lists {
        all.extend(list?.iter().map(pod::parse));
    }
    all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(all)
}

impl PerformRead for ListPods {
    async fn read(&self, session: &Session) -> Result<Vec<Pod>, Error> {
        pods(session, self).await
    }
}
