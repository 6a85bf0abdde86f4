//! The kinds that the simulated API server serves, in one version each.

use std::cmp::Ordering;
use std::fmt;

/// A kind of object, as in discovery.
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// The resource name in paths.
    pub plural: &'static str,
    /// The kind in objects.
    pub kind: &'static str,
    pub namespaced: bool,
    /// Whether `/status` is a subresource, so that writes to the main resource ignore `status`.
    pub status_subresource: bool,
    pub short_names: &'static [&'static str],
}

impl Kind {
    /// Returns `group/version`, or only the version for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Returns the resource with its group, as in error messages.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Returns whether a CustomResourceDefinition defines this kind on a real cluster.
    pub fn is_custom(&self) -> bool {
        self.group.contains('.') && !self.group.ends_with(".k8s.io") || self.group == SNAPSHOT_GROUP
    }

    /// Returns whether the API server maintains `metadata.generation` for this kind.
    pub fn has_generation(&self) -> bool {
        self.is_custom() || matches!(self.group, "apps" | "batch")
    }

    /// Finds a kind by group and resource, given as `replicationsources` or `ReplicationSource`.
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

const SNAPSHOT_GROUP: &str = "snapshot.storage.k8s.io";
const VOLSYNC_GROUP: &str = "volsync.backube";
const SOURCE_GROUP: &str = "source.toolkit.fluxcd.io";

macro_rules! kinds {
    ($(
        $name:ident = $group:expr, $version:literal, $plural:literal, $kind:literal,
        $namespaced:literal, $status:literal, [$($short:literal),*];
    )*) => {
        $(pub static $name: &Kind = &Kind {
            group: $group, version: $version, plural: $plural, kind: $kind,
            namespaced: $namespaced, status_subresource: $status, short_names: &[$($short),*],
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
    PVCS = "", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true, true, ["pvc"];
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
    STORAGE_CLASSES =
        "storage.k8s.io", "v1", "storageclasses", "StorageClass", false, false, ["sc"];
    CSI_DRIVERS = "storage.k8s.io", "v1", "csidrivers", "CSIDriver", false, false, [];
    VOLUME_ATTACHMENTS =
        "storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", false, true, [];
    CRDS =
        "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
        false, true, ["crd", "crds"];
    SNAPSHOTS = SNAPSHOT_GROUP, "v1", "volumesnapshots", "VolumeSnapshot", true, true, ["vs"];
    SNAPSHOT_CONTENTS =
        SNAPSHOT_GROUP, "v1", "volumesnapshotcontents", "VolumeSnapshotContent",
        false, true, ["vsc"];
    SNAPSHOT_CLASSES =
        SNAPSHOT_GROUP, "v1", "volumesnapshotclasses", "VolumeSnapshotClass",
        false, false, ["vsclass"];
    REPLICATION_SOURCES =
        VOLSYNC_GROUP, "v1alpha1", "replicationsources", "ReplicationSource", true, true, [];
    REPLICATION_DESTINATIONS =
        VOLSYNC_GROUP, "v1alpha1", "replicationdestinations", "ReplicationDestination",
        true, true, [];
    GIT_REPOSITORIES =
        SOURCE_GROUP, "v1", "gitrepositories", "GitRepository", true, true, ["gitrepo"];
    OCI_REPOSITORIES =
        SOURCE_GROUP, "v1", "ocirepositories", "OCIRepository", true, true, ["ocirepo"];
    BUCKETS = SOURCE_GROUP, "v1", "buckets", "Bucket", true, true, [];
    KUSTOMIZATIONS =
        "kustomize.toolkit.fluxcd.io", "v1", "kustomizations", "Kustomization", true, true, ["ks"];
    HELM_RELEASES =
        "helm.toolkit.fluxcd.io", "v2", "helmreleases", "HelmRelease", true, true, ["hr"];
    CEPH_CLUSTERS = "ceph.rook.io", "v1", "cephclusters", "CephCluster", true, true, [];
    DRIVERS = "csi.ceph.io", "v1", "drivers", "Driver", true, true, [];
}
