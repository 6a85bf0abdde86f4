//! The kinds that the simulated API server serves: built-in ones, in one version each, and those of
//! CustomResourceDefinitions.

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::object::{list, text};

/// A version of a kind of object, as in discovery. All versions of a kind are equal.
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
    /// Each followed by a comma.
    short_names: &'static str,
    /// Whether it was read from a CustomResourceDefinition.
    from_crd: bool,
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
        self.from_crd
            || self.group.contains('.') && !self.group.ends_with(".k8s.io")
            || self.group == SNAPSHOT_GROUP
    }

    /// Returns whether the API server maintains `metadata.generation` for this kind.
    pub fn has_generation(&self) -> bool {
        self.is_custom() || matches!(self.group, "apps" | "batch")
    }

    /// Finds a built-in kind by group and resource, given as `replicationsources` or
    /// `ReplicationSource`.
    pub fn find(group: &str, resource: &str) -> Option<&'static Kind> {
        find(KINDS, group, resource)
    }

    /// Returns the versions that a CustomResourceDefinition serves, the preferred one first.
    fn of_crd(crd: &Value) -> Vec<&'static Kind> {
        let mut served: Vec<&Value> = list(crd, "/spec/versions")
            .iter()
            .filter(|version| version["served"] == true)
            .collect();
        served.sort_by_key(|version| std::cmp::Reverse(priority(text(version, "/name"))));
        let kind = |version: &&Value| {
            let short_names = list(crd, "/spec/names/shortNames").iter().filter_map(Value::as_str);
            intern(Kind {
                group: intern_text(text(crd, "/spec/group")),
                version: intern_text(text(version, "/name")),
                plural: intern_text(text(crd, "/spec/names/plural")),
                kind: intern_text(text(crd, "/spec/names/kind")),
                namespaced: text(crd, "/spec/scope") != "Cluster",
                status_subresource: version.pointer("/subresources/status").is_some(),
                short_names: intern_text(
                    &short_names.map(|name| format!("{name},")).collect::<String>(),
                ),
                from_crd: true,
            })
        };
        served.iter().map(kind).collect()
    }

    /// Returns the short names of the resource.
    pub fn short_names(&self) -> Vec<&'static str> {
        self.short_names.split(',').filter(|name| !name.is_empty()).collect()
    }

    /// Returns what distinguishes it from all other kinds and versions.
    fn fields(&self) -> ([&'static str; 5], [bool; 3]) {
        (
            [self.group, self.version, self.plural, self.kind, self.short_names],
            [self.namespaced, self.status_subresource, self.from_crd],
        )
    }
}

/// Returns the priority of a version: `v2` before `v1`, and both before `v2beta1` and `v1alpha1`.
fn priority(version: &str) -> (u8, u32, u32) {
    let number = |text: &str| text.parse().unwrap_or(0);
    let rest = version.strip_prefix('v').unwrap_or(version);
    for (stage, name) in [(2, "beta"), (1, "alpha")] {
        if let Some((major, minor)) = rest.split_once(name) {
            return (stage, number(major), number(minor));
        }
    }
    (3, number(rest), 0)
}

/// Returns a text that lives as long as the program. Kinds refer to few different texts.
fn intern_text(text: &str) -> &'static str {
    static TEXTS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = texts.iter().find(|known| **known == text) {
        return known;
    }
    let leaked: &'static str = Box::leak(text.into());
    texts.push(leaked);
    leaked
}

/// Returns a kind that lives as long as the program. Many clusters serve the same kinds.
fn intern(kind: Kind) -> &'static Kind {
    static KINDS: Mutex<Vec<&'static Kind>> = Mutex::new(Vec::new());
    let mut kinds = KINDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kinds.iter().find(|known| known.fields() == kind.fields()) {
        return known;
    }
    let leaked: &'static Kind = Box::leak(Box::new(kind));
    kinds.push(leaked);
    leaked
}

fn find(kinds: &[&'static Kind], group: &str, resource: &str) -> Option<&'static Kind> {
    let is_it =
        |kind: &&&Kind| kind.group == group && (kind.plural == resource || kind.kind == resource);
    kinds.iter().find(is_it).copied()
}

/// The kinds that a cluster serves: one entry per version, the preferred version first.
#[derive(Debug, Clone)]
pub struct Kinds(Vec<&'static Kind>);

impl Kinds {
    /// All built-in kinds.
    pub fn all() -> Self {
        Kinds(KINDS.to_vec())
    }

    /// The kinds of a Kubernetes cluster without CustomResourceDefinitions.
    pub fn without_custom() -> Self {
        Kinds(KINDS.iter().copied().filter(|kind| !kind.is_custom()).collect())
    }

    /// Serves exactly the versions of a CustomResourceDefinition.
    pub fn serve(&mut self, crd: &Value) {
        self.stop_serving(crd);
        self.0.extend(Kind::of_crd(crd));
    }

    /// Stops serving the kind of a CustomResourceDefinition.
    pub fn stop_serving(&mut self, crd: &Value) {
        let (group, plural) = (text(crd, "/spec/group"), text(crd, "/spec/names/plural"));
        self.0.retain(|kind| (kind.group, kind.plural) != (group, plural));
    }

    /// Serves the built-in kinds of a group, unless a kind of the group is served already.
    pub fn serve_built_in(&mut self, group: &str) {
        if !self.0.iter().any(|kind| kind.group == group) {
            self.0.extend(KINDS.iter().filter(|kind| kind.group == group));
        }
    }

    /// Finds a kind by group and resource, in its preferred version.
    pub fn find(&self, group: &str, resource: &str) -> Option<&'static Kind> {
        find(&self.0, group, resource)
    }

    /// Finds the kind of an object, in the object's version.
    pub fn of(&self, object: &Value) -> Option<&'static Kind> {
        let (version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
        self.iter().find(|one| one.kind == kind && one.api_version() == version)
    }

    pub fn iter(&self) -> impl Iterator<Item = &'static Kind> {
        self.0.iter().copied()
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
            namespaced: $namespaced, status_subresource: $status,
            short_names: concat!($($short, ",",)*),
            from_crd: false,
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
    CRON_JOBS = "batch", "v1", "cronjobs", "CronJob", true, true, ["cj"];
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
