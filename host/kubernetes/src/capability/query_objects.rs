//! `query-objects`: objects of any kind except Secrets, as JSON.

use crate::discovery;
use crate::object::manifest;
use crate::perform::PerformRead;
use crate::resource::Resource;
use crate::send::{ListFilter, Session};
use salve_core::capability::query_objects::{GetObject, ListObjects, Page};
use salve_core::capability::types::Kind;
use salve_core::outcome::Error;
use serde_json::Value;

/// Lists one page.
///
/// # Errors
/// `conflict` if the continue token expired.
async fn list_objects(session: &Session, call: &ListObjects) -> Result<Page, Error> {
    let resource = resolve_kind(session, &call.kind, call.namespace.as_deref()).await?;
    let filter = ListFilter { labels: call.label_selector.as_deref(), fields: None };
    let page = session
        .page(
            &resource,
            call.namespace.as_deref(),
            filter,
            call.limit as usize,
            call.next.as_deref(),
        )
        .await
        .map_err(|failure| {
            if failure.code() == Some(410) {
                Error::Conflict(
                    "the rest of this list has expired; list again without `next`".into(),
                )
            } else {
                failure.into()
            }
        })?;
    let objects = page
        .items
        .into_iter()
        .map(|item| manifest(with_type(item, &resource)).to_string())
        .collect();
    Ok(Page { objects, next: page.next })
}

/// Reads one object.
async fn get(session: &Session, call: &GetObject) -> Result<String, Error> {
    let resource = resolve_kind(session, &call.kind, call.namespace.as_deref()).await?;
    Ok(manifest(session.get(&resource, call.namespace.as_deref(), &call.name).await?).to_string())
}

async fn resolve_kind(
    session: &Session,
    kind: &Kind,
    namespace: Option<&str>,
) -> Result<Resource, Error> {
    // Also rejected by validation and by the egress guard.
    if kind.group.is_empty() && kind.resource == "secrets" {
        return Err(Error::Invalid(
            "Secrets cannot be read through Salve, whatever is granted".into(),
        ));
    }
    let resource = discovery::require_resource(session, &kind.group, &kind.resource).await?;
    match (resource.namespaced, namespace) {
        (true, None) => {
            Err(Error::Invalid(format!("{resource} are namespaced; specify a namespace")))
        }
        (false, Some(_)) => Err(Error::Invalid(format!(
            "{resource} are cluster-scoped; do not specify a namespace"
        ))),
        (true, Some(_)) | (false, None) => Ok(resource),
    }
}

/// Adds `apiVersion` and `kind`, which items of a list of a built-in kind do not have.
fn with_type(mut item: Value, resource: &Resource) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.entry("apiVersion").or_insert_with(|| resource.api_version().into());
        fields.entry("kind").or_insert_with(|| resource.kind.as_ref().into());
    }
    item
}

impl PerformRead for ListObjects {
    async fn read(&self, session: &Session) -> Result<Page, Error> {
        list_objects(session, self).await
    }
}

impl PerformRead for GetObject {
    async fn read(&self, session: &Session) -> Result<String, Error> {
        get(session, self).await
    }
}
