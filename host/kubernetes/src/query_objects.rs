//! `query-objects`: any other kind, as JSON. Never Secrets.

use crate::discovery;
use crate::object::manifest;
use crate::resource::Resource;
use crate::send::{Narrow, Session};
use salve_core::effect::query_objects::{GetObject, Kind, ListObjects, Page};
use salve_core::outcome::Error;
use serde_json::Value;

/// One page.
///
/// # Errors
/// `conflict` where the list changed too long ago for its next page.
pub(crate) async fn list_objects(session: &Session, ask: &ListObjects) -> Result<Page, Error> {
    let resource = served(session, &ask.kind, ask.namespace.as_deref()).await?;
    let narrow = Narrow { labels: ask.label_selector.as_deref(), fields: None };
    let page = session
        .page(&resource, ask.namespace.as_deref(), narrow, ask.limit as usize, ask.next.as_deref())
        .await
        .map_err(|failure| {
            if failure.code() == Some(410) {
                Error::Conflict(
                    "the rest of this list is no longer to be had: begin again without `next`"
                        .into(),
                )
            } else {
                failure.into()
            }
        })?;
    let objects =
        page.items.into_iter().map(|item| manifest(named(item, &resource)).to_string()).collect();
    Ok(Page { objects, next: page.next })
}

/// One object.
pub(crate) async fn get(session: &Session, ask: &GetObject) -> Result<String, Error> {
    let resource = served(session, &ask.kind, ask.namespace.as_deref()).await?;
    Ok(manifest(session.get(&resource, ask.namespace.as_deref(), &ask.name).await?).to_string())
}

async fn served(
    session: &Session,
    kind: &Kind,
    namespace: Option<&str>,
) -> Result<Resource, Error> {
    // Refused where the effect was made, and kept by the fence; a third time costs nothing.
    if kind.group.is_empty() && kind.resource == "secrets" {
        return Err(Error::Invalid(
            "Secrets cannot be read through Salve, whatever is granted".into(),
        ));
    }
    let resource = discovery::served(session, &kind.group, &kind.resource).await?;
    match (resource.namespaced, namespace) {
        (true, None) => Err(Error::Invalid(format!("{resource} live in namespaces: name one"))),
        (false, Some(_)) => {
            Err(Error::Invalid(format!("{resource} live in no namespace: name none")))
        }
        (true, Some(_)) | (false, None) => Ok(resource),
    }
}

/// Items of a list of a built-in kind do not say what they are.
fn named(mut item: Value, resource: &Resource) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.entry("apiVersion").or_insert_with(|| resource.api_version().into());
        fields.entry("kind").or_insert_with(|| resource.kind.as_ref().into());
    }
    item
}
