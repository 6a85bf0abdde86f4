//! Lists objects, in pages.

use super::{ApiCall, NotFound, Session, document, object_path};
use crate::failure::Failure;
use crate::object;
use crate::resource::{Resource, encode_query};
use bytes::Bytes;
use serde_json::Value;
use std::borrow::Cow;

/// Number of objects per page of a list.
const LIST_PAGE_SIZE: usize = 500;
/// How often a list is restarted after its continue token expired.
const MAX_LIST_RESTARTS: u32 = 3;

/// Selectors of a list request.
#[derive(Clone, Copy, Default)]
pub(crate) struct ListFilter<'a> {
    /// Label selector, as in `kubectl get -l`.
    pub labels: Option<&'a str>,
    /// Field selector, as in `kubectl get --field-selector`.
    pub fields: Option<&'a str>,
}

/// One page of a list.
pub(crate) struct Page {
    pub items: Vec<Value>,
    pub next: Option<String>,
}

impl Session {
    /// Lists all objects of a kind, in one namespace or in the whole cluster.
    pub(crate) async fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        filter: ListFilter<'_>,
    ) -> Result<Vec<Value>, Failure> {
        let mut restarts = 0;
        let (mut all, mut next) = (Vec::new(), None);
        loop {
            match self.page(resource, namespace, filter, LIST_PAGE_SIZE, next.as_deref()).await {
                Ok(page) => {
                    all.extend(page.items);
                    next = page.next;
                    if next.is_none() {
                        return Ok(all);
                    }
                }
                // The continue token expired. A partial list must not be returned.
                Err(failure) if failure.code() == Some(410) && restarts < MAX_LIST_RESTARTS => {
                    restarts += 1;
                    (all, next) = (Vec::new(), None);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Lists one page of a kind.
    pub(crate) async fn page(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        filter: ListFilter<'_>,
        limit: usize,
        next: Option<&str>,
    ) -> Result<Page, Failure> {
        // Without resourceVersion, the response is read from etcd and not from a cache.
        let pairs = [
            ("labelSelector", filter.labels),
            ("fieldSelector", filter.fields),
            ("continue", next),
        ];
        let pairs = pairs.into_iter().filter_map(|(key, value)| Some((key, Cow::Borrowed(value?))));
        let uri = format!(
            "{}{}",
            resource.collection_path(namespace),
            encode_query(std::iter::once(("limit", Cow::Owned(limit.to_string()))).chain(pairs))
        );
        let description = format!("list {resource} {}", object_path(namespace, "*"));
        let mut list = self
            .send(ApiCall::get(uri, description, NotFound::Objects(vec![])), collection)
            .await?;
        let next = object::owned(&list, "/metadata/continue");
        let items = match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            Some(_) | None => Vec::new(),
        };
        Ok(Page { items, next })
    }
}

fn collection(bytes: Bytes) -> Option<Value> {
    document(bytes)
        .filter(|list| list.get("items").is_some_and(|items| items.is_array() || items.is_null()))
}
