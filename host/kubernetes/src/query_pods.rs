//! `query-pods`: pods.

use crate::pod;
use crate::resource::PODS;
use crate::send::{Narrow, Session, concurrently};
use salve_core::effect::query_pods::ListPods;
use salve_core::effect::shared::Pod;
use salve_core::outcome::Error;

/// All pods of the namespaces, by namespace and name.
pub(crate) async fn pods(session: &Session, ask: &ListPods) -> Result<Vec<Pod>, Error> {
    let lists = concurrently(
        ask.namespaces.iter().map(|ns| session.list(&PODS, Some(ns), Narrow::default())).collect(),
        16,
    )
    .await;
    let mut all = Vec::new();
    for list in lists {
        all.extend(list?.iter().map(pod::read));
    }
    all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(all)
}
