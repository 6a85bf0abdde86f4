//! The kinds that the harness uses, and their API paths.

/// A kind with the parts of its API path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Group and version, or the version alone.
    pub api_version: &'static str,
    pub kind: &'static str,
    /// The resource name in paths.
    pub plural: &'static str,
}

impl Kind {
    /// Returns the path of an object, or of the collection if `name` is empty. An empty `namespace`
    /// means a cluster-scoped kind or all namespaces.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        let scope =
            if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        let object = if name.is_empty() { String::new() } else { format!("/{name}") };
        format!("/{root}/{}{scope}/{}{object}", self.api_version, self.plural)
    }

    /// Returns the kind of a document, if the harness knows it.
    pub fn of_document(document: &serde_json::Value) -> Option<Kind> {
        ALL.iter().copied().find(|kind| {
            document["apiVersion"] == kind.api_version && document["kind"] == kind.kind
        })
    }
}

macro_rules! kinds {
    ($($constant:ident = $api_version:literal $kind:literal $plural:literal;)*) => {
        $(
            #[doc = concat!("`", $kind, "` of `", $api_version, "`.")]
            pub const $constant: Kind =
                Kind { api_version: $api_version, kind: $kind, plural: $plural };
        )*
        const ALL: &[Kind] = &[$($constant),*];
    };
}

kinds! {
    NAMESPACES = "v1" "Namespace" "namespaces";
    NODES = "v1" "Node" "nodes";
    PODS = "v1" "Pod" "pods";
    EVENTS = "v1" "Event" "events";
    SECRETS = "v1" "Secret" "secrets";
    SERVICE_ACCOUNTS = "v1" "ServiceAccount" "serviceaccounts";
    PVCS = "v1" "PersistentVolumeClaim" "persistentvolumeclaims";
    PERSISTENT_VOLUMES = "v1" "PersistentVolume" "persistentvolumes";
    DEPLOYMENTS = "apps/v1" "Deployment" "deployments";
    LEASES = "coordination.k8s.io/v1" "Lease" "leases";
    STORAGE_CLASSES = "storage.k8s.io/v1" "StorageClass" "storageclasses";
    CSI_DRIVERS = "storage.k8s.io/v1" "CSIDriver" "csidrivers";
    SNAPSHOTS = "snapshot.storage.k8s.io/v1" "VolumeSnapshot" "volumesnapshots";
    SNAPSHOT_CONTENTS =
        "snapshot.storage.k8s.io/v1" "VolumeSnapshotContent" "volumesnapshotcontents";
    SNAPSHOT_CLASSES = "snapshot.storage.k8s.io/v1" "VolumeSnapshotClass" "volumesnapshotclasses";
    GIT_REPOSITORIES = "source.toolkit.fluxcd.io/v1" "GitRepository" "gitrepositories";
    KUSTOMIZATIONS = "kustomize.toolkit.fluxcd.io/v1" "Kustomization" "kustomizations";
    HELM_RELEASES = "helm.toolkit.fluxcd.io/v2" "HelmRelease" "helmreleases";
    REPLICATION_SOURCES = "volsync.backube/v1alpha1" "ReplicationSource" "replicationsources";
    REPLICATION_DESTINATIONS =
        "volsync.backube/v1alpha1" "ReplicationDestination" "replicationdestinations";
    CEPH_CLUSTERS = "ceph.rook.io/v1" "CephCluster" "cephclusters";
    CEPH_DRIVERS = "csi.ceph.io/v1" "Driver" "drivers";
    ROLES = "rbac.authorization.k8s.io/v1" "Role" "roles";
    CLUSTER_ROLES = "rbac.authorization.k8s.io/v1" "ClusterRole" "clusterroles";
    POD_LOGS = "kwok.x-k8s.io/v1alpha1" "Logs" "logs";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_contains_group_namespace_and_name() {
        assert_eq!(
            PVCS.path("ai", "ollama"),
            "/api/v1/namespaces/ai/persistentvolumeclaims/ollama"
        );
        assert_eq!(DEPLOYMENTS.path("", ""), "/apis/apps/v1/deployments");
        assert_eq!(
            STORAGE_CLASSES.path("", "ceph-block"),
            "/apis/storage.k8s.io/v1/storageclasses/ceph-block"
        );
    }
}
