//! The kinds that the harness speaks of, and where the API server keeps them.

/// A kind with what its address needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Group and version, or the version alone.
    pub api_version: &'static str,
    /// Its name in documents.
    pub kind: &'static str,
    /// Its name in addresses.
    pub plural: &'static str,
}

impl Kind {
    /// The address of the kind, of one object of it if a name is given. No namespace: of a cluster-scoped kind, or of
    /// all namespaces.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        let within =
            if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        let one = if name.is_empty() { String::new() } else { format!("/{name}") };
        format!("/{root}/{}{within}/{}{one}", self.api_version, self.plural)
    }

    /// The kind of a document.
    pub fn of(document: &serde_json::Value) -> Option<Kind> {
        ALL.iter().copied().find(|kind| {
            document["apiVersion"] == kind.api_version && document["kind"] == kind.kind
        })
    }
}

macro_rules! kinds {
    ($($constant:ident = $api_version:literal $kind:literal $plural:literal;)*) => {
        $(
            #[doc = concat!("`", $kind, "` of `", $api_version, "`.")]
            pub const $constant: Kind = Kind { api_version: $api_version, kind: $kind, plural: $plural };
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
    CLAIMS = "v1" "PersistentVolumeClaim" "persistentvolumeclaims";
    VOLUMES = "v1" "PersistentVolume" "persistentvolumes";
    DEPLOYMENTS = "apps/v1" "Deployment" "deployments";
    LEASES = "coordination.k8s.io/v1" "Lease" "leases";
    STORAGE_CLASSES = "storage.k8s.io/v1" "StorageClass" "storageclasses";
    CSI_DRIVERS = "storage.k8s.io/v1" "CSIDriver" "csidrivers";
    SNAPSHOTS = "snapshot.storage.k8s.io/v1" "VolumeSnapshot" "volumesnapshots";
    SNAPSHOT_CONTENTS = "snapshot.storage.k8s.io/v1" "VolumeSnapshotContent" "volumesnapshotcontents";
    SNAPSHOT_CLASSES = "snapshot.storage.k8s.io/v1" "VolumeSnapshotClass" "volumesnapshotclasses";
    GIT_REPOSITORIES = "source.toolkit.fluxcd.io/v1" "GitRepository" "gitrepositories";
    KUSTOMIZATIONS = "kustomize.toolkit.fluxcd.io/v1" "Kustomization" "kustomizations";
    HELM_RELEASES = "helm.toolkit.fluxcd.io/v2" "HelmRelease" "helmreleases";
    REPLICATION_SOURCES = "volsync.backube/v1alpha1" "ReplicationSource" "replicationsources";
    REPLICATION_DESTINATIONS = "volsync.backube/v1alpha1" "ReplicationDestination" "replicationdestinations";
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
    fn an_address_has_the_group_the_namespace_and_the_name() {
        assert_eq!(
            CLAIMS.path("ai", "ollama"),
            "/api/v1/namespaces/ai/persistentvolumeclaims/ollama"
        );
        assert_eq!(DEPLOYMENTS.path("", ""), "/apis/apps/v1/deployments");
        assert_eq!(
            STORAGE_CLASSES.path("", "ceph-block"),
            "/apis/storage.k8s.io/v1/storageclasses/ceph-block"
        );
    }
}
