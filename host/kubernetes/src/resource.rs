//! A kind as the API server serves it, and the paths of its objects.

use std::borrow::Cow;
use std::fmt;

/// A served kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// Empty for the core group.
    pub group: Cow<'static, str>,
    /// The version to ask for.
    pub version: Cow<'static, str>,
    /// The plural, as it stands in paths.
    pub plural: Cow<'static, str>,
    /// The kind, as it stands in objects; empty where nobody needs it.
    pub kind: Cow<'static, str>,
    /// Its objects live in namespaces.
    pub namespaced: bool,
}

const fn built_in(
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> Resource {
    let (group, version) = (Cow::Borrowed(group), Cow::Borrowed("v1"));
    Resource {
        group,
        version,
        plural: Cow::Borrowed(plural),
        kind: Cow::Borrowed(kind),
        namespaced,
    }
}

/// `v1` since long, in every Kubernetes: nothing to discover.
pub(crate) static NAMESPACES: Resource = built_in("", "namespaces", "Namespace", false);
pub(crate) static PODS: Resource = built_in("", "pods", "Pod", true);
pub(crate) static EVENTS: Resource = built_in("", "events", "Event", true);
pub(crate) static CLAIMS: Resource =
    built_in("", "persistentvolumeclaims", "PersistentVolumeClaim", true);
pub(crate) static VOLUMES: Resource = built_in("", "persistentvolumes", "PersistentVolume", false);
pub(crate) static DEPLOYMENTS: Resource = built_in("apps", "deployments", "Deployment", true);
pub(crate) static LEASES: Resource = built_in("coordination.k8s.io", "leases", "Lease", true);
pub(crate) static STORAGE_CLASSES: Resource =
    built_in("storage.k8s.io", "storageclasses", "StorageClass", false);
pub(crate) static CSI_DRIVERS: Resource =
    built_in("storage.k8s.io", "csidrivers", "CSIDriver", false);
pub(crate) static ACCESS_REVIEWS: Resource =
    built_in("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", false);
pub(crate) static SERVICE_ACCOUNTS: Resource =
    built_in("", "serviceaccounts", "ServiceAccount", true);
pub(crate) static POLICIES: Resource = built_in(
    "admissionregistration.k8s.io",
    "validatingadmissionpolicies",
    "ValidatingAdmissionPolicy",
    false,
);
pub(crate) static POLICY_BINDINGS: Resource = built_in(
    "admissionregistration.k8s.io",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    false,
);
pub(crate) static SELF_REVIEWS: Resource =
    built_in("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", false);

impl Resource {
    fn base(&self) -> String {
        if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        }
    }

    /// The path of all of them, or of all in a namespace.
    ///
    /// # Assumptions
    /// Names were checked when the effect came to be: nothing is encoded here.
    pub(crate) fn all(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(ns) => format!("{}/namespaces/{ns}/{}", self.base(), self.plural),
            None => format!("{}/{}", self.base(), self.plural),
        }
    }

    /// The path of one.
    pub(crate) fn one(&self, namespace: Option<&str>, name: &str) -> String {
        format!("{}/{name}", self.all(namespace))
    }

    /// `group/version`, or the version alone for the core group.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.plural)
        } else {
            write!(f, "{}.{}", self.plural, self.group)
        }
    }
}

/// A query, encoded.
pub(crate) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, Cow<'a, str>)>) -> String {
    use fmt::Write;
    let mut out = String::new();
    for (key, value) in pairs {
        out.push_str(if out.is_empty() { "?" } else { "&" });
        out.push_str(key);
        out.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(byte as char);
            } else {
                write!(out, "%{byte:02X}").expect("a String takes every write");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        assert_eq!(PODS.one(Some("media"), "plex-0"), "/api/v1/namespaces/media/pods/plex-0");
        assert_eq!(
            DEPLOYMENTS.all(Some("rook-ceph")),
            "/apis/apps/v1/namespaces/rook-ceph/deployments"
        );
        assert_eq!(NAMESPACES.one(None, "kube-system"), "/api/v1/namespaces/kube-system");
    }

    #[test]
    fn a_value_cannot_leave_its_parameter() {
        assert_eq!(
            query([("labelSelector", "a=b&watch=1#".into()), ("limit", "5".into())]),
            "?labelSelector=a%3Db%26watch%3D1%23&limit=5"
        );
        assert_eq!(query([]), "");
    }
}
