//! The kinds of object that the simulated API server serves, one served version each.
//! Knows names only; what an object means is for the parties.

use std::cmp::Ordering;
use std::fmt;

/// A kind of object, as discovery names it.
pub struct Kind {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// The version served.
    pub version: &'static str,
    /// The resource, as it stands in paths.
    pub plural: &'static str,
    /// The kind, as it stands in objects.
    pub kind: &'static str,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether `/status` is a subresource, so that the main resource ignores status.
    pub status: bool,
    /// The short names that kubectl accepts.
    pub short: &'static [&'static str],
}

impl Kind {
    /// `group/version`, or only the version for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The resource with its group, as error messages name it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Whether a CustomResourceDefinition would stand behind it on a real cluster.
    pub fn is_custom(&self) -> bool {
        self.group.contains('.') && !self.group.ends_with(".k8s.io") || self.group == SNAPSHOT
    }

    /// Whether the API server counts the generations of its spec.
    pub fn has_generation(&self) -> bool {
        self.is_custom() || matches!(self.group, "apps" | "batch")
    }

    /// The kind behind `resource` of `group`, given as `replicationsources` or `ReplicationSource`.
    pub fn find(group: &str, resource: &str) -> Option<&'static Kind> {
        KINDS
            .iter()
            .copied()
            .find(|kind| kind.group == group && (kind.plural == resource || kind.kind == resource))
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Kind {}
impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.group, self.plural).cmp(&(other.group, other.plural))
    }
}
impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.qualified())
    }
}

const SNAPSHOT: &str = "snapshot.storage.k8s.io";
const VOLSYNC: &str = "volsync.backube";
const SOURCE: &str = "source.toolkit.fluxcd.io";

macro_rules! kinds {
    ($($name:ident = $group:expr, $version:literal, $plural:literal, $kind:literal, $namespaced:literal, $status:literal, [$($short:literal),*];)*) => {
        $(#[doc = concat!("`", $kind, "`.")]
        pub static $name: &Kind = &Kind {
            group: $group, version: $version, plural: $plural, kind: $kind,
            namespaced: $namespaced, status: $status, short: &[$($short),*],
        };)*
        /// Every kind served, in the order of discovery.
        pub static KINDS: &[&Kind] = &[$($name),*];
    };
}

kinds! {
    NAMESPACES = "", "v1", "namespaces", "Namespace", false, true, ["ns"];
    NODES = "", "v1", "nodes", "Node", false, true, ["no"];
    PODS = "", "v1", "pods", "Pod", true, true, ["po"];
    EVENTS = "", "v1", "events", "Event", true, false, ["ev"];
    CLAIMS = "", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true, true, ["pvc"];
    VOLUMES = "", "v1", "persistentvolumes", "PersistentVolume", false, true, ["pv"];
    CONFIG_MAPS = "", "v1", "configmaps", "ConfigMap", true, false, ["cm"];
    SECRETS = "", "v1", "secrets", "Secret", true, false, [];
    SERVICES = "", "v1", "services", "Service", true, true, ["svc"];
    SERVICE_ACCOUNTS = "", "v1", "serviceaccounts", "ServiceAccount", true, false, ["sa"];
    DEPLOYMENTS = "apps", "v1", "deployments", "Deployment", true, true, ["deploy"];
    REPLICA_SETS = "apps", "v1", "replicasets", "ReplicaSet", true, true, ["rs"];
    STATEFUL_SETS = "apps", "v1", "statefulsets", "StatefulSet", true, true, ["sts"];
    DAEMON_SETS = "apps", "v1", "daemonsets", "DaemonSet", true, true, ["ds"];
    JOBS = "batch", "v1", "jobs", "Job", true, true, [];
    LEASES = "coordination.k8s.io", "v1", "leases", "Lease", true, false, [];
    STORAGE_CLASSES = "storage.k8s.io", "v1", "storageclasses", "StorageClass", false, false, ["sc"];
    CSI_DRIVERS = "storage.k8s.io", "v1", "csidrivers", "CSIDriver", false, false, [];
    DEFINITIONS = "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false, true, ["crd", "crds"];
    SNAPSHOTS = SNAPSHOT, "v1", "volumesnapshots", "VolumeSnapshot", true, true, ["vs"];
    CONTENTS = SNAPSHOT, "v1", "volumesnapshotcontents", "VolumeSnapshotContent", false, true, ["vsc"];
    SNAPSHOT_CLASSES = SNAPSHOT, "v1", "volumesnapshotclasses", "VolumeSnapshotClass", false, false, ["vsclass"];
    SOURCES = VOLSYNC, "v1alpha1", "replicationsources", "ReplicationSource", true, true, [];
    DESTINATIONS = VOLSYNC, "v1alpha1", "replicationdestinations", "ReplicationDestination", true, true, [];
    GIT_REPOSITORIES = SOURCE, "v1", "gitrepositories", "GitRepository", true, true, ["gitrepo"];
    OCI_REPOSITORIES = SOURCE, "v1", "ocirepositories", "OCIRepository", true, true, ["ocirepo"];
    BUCKETS = SOURCE, "v1", "buckets", "Bucket", true, true, [];
    KUSTOMIZATIONS = "kustomize.toolkit.fluxcd.io", "v1", "kustomizations", "Kustomization", true, true, ["ks"];
    HELM_RELEASES = "helm.toolkit.fluxcd.io", "v2", "helmreleases", "HelmRelease", true, true, ["hr"];
    CEPH_CLUSTERS = "ceph.rook.io", "v1", "cephclusters", "CephCluster", true, true, [];
    DRIVERS = "csi.ceph.io", "v1", "drivers", "Driver", true, true, [];
}
