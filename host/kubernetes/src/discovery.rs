//! Discovers the served version of a kind, e.g. Flux `v1` or one of its older betas.

use crate::failure::NO_RESPONSE;
use crate::object::{is_true, list, text};
use crate::resource::Resource;
use crate::send::Session;
use salve_core::capability::types::{ROOK, SNAPSHOT, VOLSYNC};
use salve_core::outcome::Error;
use serde_json::Value;

/// Returns a kind with its served version.
///
/// # Errors
/// `not-found` if the CRD is missing.
pub(crate) async fn require_resource(
    session: &Session,
    group: &str,
    plural: &str,
) -> Result<Resource, Error> {
    find_resource(session, group, plural).await?.ok_or_else(|| missing_crd(group, plural))
}

/// Returns a kind with its served version, or None if it is not served. Only served kinds are
/// cached, because a missing CRD can be installed at any time.
pub(crate) async fn find_resource(
    session: &Session,
    group: &str,
    plural: &str,
) -> Result<Option<Resource>, Error> {
    if let Some(known) = session.cluster().cached_resource(group, plural) {
        return Ok(Some(known));
    }
    for version in versions(session, group).await? {
        let path = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let resources = of_kind("APIResourceList", &path, session.get_path(&path).await?)?;
        if let Some(resource) = resource_from_list(&resources, group, &version, plural) {
            session.cluster().cache_resource(&resource);
            return Ok(Some(resource));
        }
    }
    Ok(None)
}

/// Returns the versions of a group, the preferred one first; none if it is not served. Not every
/// kind of a group is served in the preferred version.
async fn versions(session: &Session, group: &str) -> Result<Vec<String>, Error> {
    if group.is_empty() {
        return Ok(vec!["v1".into()]);
    }
    let path = format!("/apis/{group}");
    let found = match session.find_path(&path).await? {
        Some(found) => found,
        // mutant missing-group-not-confirmed: is_listed(session, group).await? ~> false
        None if is_listed(session, group).await? => session.get_path(&path).await?,
        None => return Ok(vec![]),
    };
    let found = of_kind("APIGroup", &path, found)?;
    let preferred = text(&found, "/preferredVersion/version");
    let others = list(&found, "/versions")
        .iter()
        .filter_map(|version| text(version, "/version"))
        .filter(|version| Some(*version) != preferred);
    Ok(preferred.into_iter().chain(others).map(str::to_owned).collect())
}

/// Returns true if the list of all groups contains a group. The API server's 404 for a group that
/// it does not serve is plain text, like that of a proxy, so it proves nothing.
async fn is_listed(session: &Session, group: &str) -> Result<bool, Error> {
    let groups = of_kind("APIGroupList", "/apis", session.get_path("/apis").await?)?;
    Ok(list(&groups, "/groups").iter().any(|one| text(one, "/name") == Some(group)))
}

/// Checks that a document is of a kind.
///
/// # Errors
/// `unavailable`: something other than the API server sent it.
fn of_kind(kind: &str, path: &str, document: Value) -> Result<Value, Error> {
    if text(&document, "/kind") == Some(kind) {
        return Ok(document);
    }
    Err(Error::Unavailable(format!(
        "get {path}: {NO_RESPONSE}: the response is not of kind {kind}; is a proxy in between?"
    )))
}

fn resource_from_list(
    resources: &Value,
    group: &str,
    version: &str,
    plural: &str,
) -> Option<Resource> {
    let found =
        list(resources, "/resources").iter().find(|one| text(one, "/name") == Some(plural))?;
    Some(Resource {
        group: group.to_owned().into(),
        version: version.to_owned().into(),
        plural: plural.to_owned().into(),
        kind: text(found, "/kind").unwrap_or_default().to_owned().into(),
        namespaced: is_true(found, "/namespaced"),
    })
}

fn missing_crd(group: &str, plural: &str) -> Error {
    let hint = match group {
        VOLSYNC => "; is VolSync installed?",
        SNAPSHOT => "; are the CSI snapshot CRDs installed?",
        ROOK => "; is Rook installed?",
        _ if group.ends_with(".toolkit.fluxcd.io") => "; is this controller of Flux installed?",
        _ => "",
    };
    let kind = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
    Error::NotFound(format!("the cluster does not serve {kind}: its CRD is missing{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_is_found_by_its_plural_and_not_by_a_subresource() {
        let resources = json!({"resources": [
            {"name": "ocirepositories/status", "kind": "OCIRepository", "namespaced": true},
            {"name": "ocirepositories", "kind": "OCIRepository", "namespaced": true},
        ]});
        let found = resource_from_list(
            &resources,
            "source.toolkit.fluxcd.io",
            "v1beta2",
            "ocirepositories",
        )
        .unwrap();
        assert_eq!(
            (found.kind.as_ref(), found.api_version().as_str(), found.namespaced),
            ("OCIRepository", "source.toolkit.fluxcd.io/v1beta2", true)
        );
        assert_eq!(resource_from_list(&resources, "g", "v1", "buckets"), None);
    }

    #[test]
    fn the_error_for_a_missing_kind_names_what_is_not_installed() {
        assert!(missing_crd(VOLSYNC, "replicationsources").text().contains("VolSync"));
        assert!(missing_crd("helm.toolkit.fluxcd.io", "helmreleases").text().contains("Flux"));
    }
}
