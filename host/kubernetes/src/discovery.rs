//! In which version a kind is served, by asking the API server: Flux v1 as well as its older betas.

use crate::failure::{Failure, How};
use crate::object::{list, text};
use crate::resource::Resource;
use crate::send::Session;
use salve_core::outcome::Error;
use serde_json::Value;

pub(crate) const VOLSYNC: &str = "volsync.backube";
pub(crate) const SNAPSHOT: &str = "snapshot.storage.k8s.io";
pub(crate) const ROOK: &str = "ceph.rook.io";

/// The kind as it is served.
///
/// # Errors
/// `not-found` names the CRD that is missing.
pub(crate) async fn served(
    session: &Session,
    group: &str,
    plural: &str,
) -> Result<Resource, Error> {
    look_up(session, group, plural).await?.ok_or_else(|| missing(group, plural))
}

/// The kind as it is served, or none. What is there is remembered; what is not may be installed any moment.
pub(crate) async fn look_up(
    session: &Session,
    group: &str,
    plural: &str,
) -> Result<Option<Resource>, Error> {
    if let Some(known) = session.cluster().known_resource(group, plural) {
        return Ok(Some(known));
    }
    for version in versions(session, group).await? {
        let path = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let Some(resources) = absent(session.read(&path).await)? else { continue };
        if let Some(resource) = pick(&resources, group, &version, plural) {
            session.cluster().learn_resource(&resource);
            return Ok(Some(resource));
        }
    }
    Ok(None)
}

/// The versions of a group, the preferred one first: not every kind of a group is served in it.
async fn versions(session: &Session, group: &str) -> Result<Vec<String>, Error> {
    if group.is_empty() {
        return Ok(vec!["v1".into()]);
    }
    let Some(found) = absent(session.read(&format!("/apis/{group}")).await)? else {
        return Ok(vec![]);
    };
    let preferred = text(&found, "/preferredVersion/version");
    let others = list(&found, "/versions")
        .iter()
        .filter_map(|one| text(one, "/version"))
        .filter(|one| Some(*one) != preferred);
    Ok(preferred.into_iter().chain(others).map(str::to_owned).collect())
}

fn absent(answer: Result<Value, Failure>) -> Result<Option<Value>, Error> {
    match answer {
        Ok(document) => Ok(Some(document)),
        Err(Failure { how: How::Refused(refusal), .. }) if refusal.code == 404 => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

fn pick(resources: &Value, group: &str, version: &str, plural: &str) -> Option<Resource> {
    let found =
        list(resources, "/resources").iter().find(|one| text(one, "/name") == Some(plural))?;
    Some(Resource {
        group: group.to_owned().into(),
        version: version.to_owned().into(),
        plural: plural.to_owned().into(),
        kind: text(found, "/kind").unwrap_or_default().to_owned().into(),
        namespaced: crate::object::is_true(found, "/namespaced"),
    })
}

fn missing(group: &str, plural: &str) -> Error {
    let whose = match group {
        VOLSYNC => "; is VolSync installed?",
        SNAPSHOT => "; are the CSI snapshot CRDs installed?",
        ROOK => "; is Rook installed?",
        _ if group.ends_with(".toolkit.fluxcd.io") => "; is Flux installed, with this controller?",
        _ => "",
    };
    let word = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
    Error::NotFound(format!("the cluster serves no {word}: its CRD is missing{whose}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_is_picked_by_its_plural_and_not_by_a_subresource() {
        let resources = json!({"resources": [
            {"name": "ocirepositories/status", "kind": "OCIRepository", "namespaced": true},
            {"name": "ocirepositories", "kind": "OCIRepository", "namespaced": true},
        ]});
        let found =
            pick(&resources, "source.toolkit.fluxcd.io", "v1beta2", "ocirepositories").unwrap();
        assert_eq!(
            (found.kind.as_ref(), found.api_version().as_str(), found.namespaced),
            ("OCIRepository", "source.toolkit.fluxcd.io/v1beta2", true)
        );
        assert_eq!(pick(&resources, "g", "v1", "buckets"), None);
    }

    #[test]
    fn a_missing_kind_says_what_is_not_installed() {
        assert!(missing(VOLSYNC, "replicationsources").text().contains("VolSync"));
        assert!(missing("helm.toolkit.fluxcd.io", "helmreleases").text().contains("Flux"));
    }
}
