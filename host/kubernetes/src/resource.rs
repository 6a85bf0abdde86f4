//! Served kinds and the paths of their objects.

use std::borrow::Cow;
use std::fmt;

/// A kind in the version in which it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// Empty for the core group.
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    /// Empty if not needed.
    pub kind: Cow<'static, str>,
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

// Served as `v1` by every supported Kubernetes version, so these need no discovery.
pub(crate) static NAMESPACES: Resource = built_in("", "namespaces", "Namespace", false);
pub(crate) static PODS: Resource = built_in("", "pods", "Pod", true);
pub(crate) static EVENTS: Resource = built_in("", "events", "Event", true);
pub(crate) static PVCS: Resource =
    built_in("", "persistentvolumeclaims", "PersistentVolumeClaim", true);
pub(crate) static PERSISTENT_VOLUMES: Resource =
    built_in("", "persistentvolumes", "PersistentVolume", false);
pub(crate) static DEPLOYMENTS: Resource = built_in("apps", "deployments", "Deployment", true);
pub(crate) static DAEMON_SETS: Resource = built_in("apps", "daemonsets", "DaemonSet", true);
pub(crate) static STATEFUL_SETS: Resource = built_in("apps", "statefulsets", "StatefulSet", true);
pub(crate) static JOBS: Resource = built_in("batch", "jobs", "Job", true);
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

    /// Returns the path of the collection, in one namespace or in the whole cluster.
    ///
    /// # Assumptions
    /// Names were validated with the effect; nothing is encoded here.
    pub(crate) fn collection_path(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(ns) => format!("{}/namespaces/{ns}/{}", self.base(), self.plural),
            None => format!("{}/{}", self.base(), self.plural),
        }
    }

    /// Returns the path of one object.
    pub(crate) fn object_path(&self, namespace: Option<&str>, name: &str) -> String {
        format!("{}/{name}", self.collection_path(namespace))
    }

    /// Returns `group/version`, or the version alone for the core group.
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

/// Percent-encodes a query string, including the leading `?`. Empty without pairs.
pub(crate) fn encode_query<'a>(pairs: impl IntoIterator<Item = (&'a str, Cow<'a, str>)>) -> String {
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
                write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_the_kubernetes_api() {
        assert_eq!(
            PODS.object_path(Some("media"), "plex-0"),
            "/api/v1/namespaces/media/pods/plex-0"
        );
        assert_eq!(
            DEPLOYMENTS.collection_path(Some("rook-ceph")),
            "/apis/apps/v1/namespaces/rook-ceph/deployments"
        );
        assert_eq!(NAMESPACES.object_path(None, "kube-system"), "/api/v1/namespaces/kube-system");
    }

    #[test]
    fn a_value_cannot_escape_its_parameter() {
        assert_eq!(
            encode_query([("labelSelector", "a=b&watch=1#".into()), ("limit", "5".into())]),
            "?labelSelector=a%3Db%26watch%3D1%23&limit=5"
        );
        assert_eq!(encode_query([]), "");
    }
}
