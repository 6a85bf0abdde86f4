//! Types that several capabilities use: `wit/types.wit` as plain data.

use super::{GrantKinds, Target};
use crate::footprint::{Rule, Scope, Verb};
use crate::grants::Grant;
use crate::{Millis, name, outcome::Error};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The API group of VolSync.
pub const VOLSYNC: &str = "volsync.backube";
/// The API group of CSI snapshots.
pub const SNAPSHOT: &str = "snapshot.storage.k8s.io";
/// The API group of Rook's Ceph operator.
pub const ROOK: &str = "ceph.rook.io";

/// API groups whose objects no guest can change: they decide who may do what, and the Lease of the
/// cluster lock is one of them.
const NEVER_WRITABLE: [&str; 10] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "rbac.authorization.k8s.io",
    "salve.dev",
];

/// A kind by its group and plural.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kind {
    /// Empty for the core group.
    pub group: String,
    /// The plural, lowercase.
    pub resource: String,
}

impl Kind {
    /// Returns `resource.group`, as grants write it.
    pub fn resource_group(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
    /// Parses `resource.group`.
    ///
    /// # Errors
    /// It is not a kind, or it is Secrets. A slash would address a subresource.
    pub fn parse(kind: &str) -> Result<Self, Error> {
        let (resource, group) = kind.split_once('.').unwrap_or((kind, ""));
        let kind = Self { group: group.into(), resource: resource.into() };
        kind.validate()?;
        Ok(kind)
    }
    /// Returns the rule for each kind that the grant names, or for the kind of the call. A pattern
    /// names none: a Role has to.
    pub(super) fn rules(verb: Verb, scope: Scope, grant: Option<&Grant>) -> Vec<Rule> {
        let Some(grant) = grant else { return vec![Rule::new(verb, "*", "*", scope)] };
        let kinds = grant.kinds.iter().flatten().filter(|kind| kind.is_plain());
        kinds
            .filter_map(|kind| Self::parse(kind.as_str()).ok())
            .map(|kind| Rule::new(verb, kind.group, kind.resource, scope))
            .collect()
    }

    pub(super) fn target(&self, namespace: Option<String>, name: Option<String>) -> Target {
        let kind = self.resource_group();
        Target { kind: None, namespace, name }.with_kind(kind.clone(), kind)
    }

    /// Checks that a guest may be allowed to change objects of this kind.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn validate_writable(&self) -> Result<(), Error> {
        self.validate()?;
        if NEVER_WRITABLE.contains(&self.group.as_str()) {
            return Err(Error::Invalid(format!(
                "objects of group {} can never be changed, whatever is granted",
                self.group
            )));
        }
        Ok(())
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        name::group(&self.group)?;
        name::resource(&self.resource)?;
        if self.group.is_empty() && self.resource == "secrets" {
            return Err(Error::Invalid("Secrets can never be read, whatever is granted".into()));
        }
        Ok(())
    }
}

/// A namespaced object. Its kind follows from the call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    pub namespace: String,
    pub name: String,
}

impl ObjectRef {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
    /// # Errors
    /// A name is not valid in Kubernetes.
    pub fn validate(&self) -> Result<(), Error> {
        name::namespace(&self.namespace)?;
        name::object(&self.name)
    }
    pub fn target(&self) -> Target {
        Target::object(&self.namespace, &self.name)
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Flux kind that can be suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FluxKind {
    /// `kustomizations.kustomize.toolkit.fluxcd.io`
    Kustomization,
    /// `helmreleases.helm.toolkit.fluxcd.io`
    HelmRelease,
    /// `gitrepositories.source.toolkit.fluxcd.io`
    GitRepository,
    /// `ocirepositories.source.toolkit.fluxcd.io`
    OciRepository,
    /// `buckets.source.toolkit.fluxcd.io`
    Bucket,
}

impl FluxKind {
    pub const ALL: [Self; 5] = [
        Self::Kustomization,
        Self::HelmRelease,
        Self::GitRepository,
        Self::OciRepository,
        Self::Bucket,
    ];
    pub fn group(self) -> &'static str {
        match self {
            Self::Kustomization => "kustomize.toolkit.fluxcd.io",
            Self::HelmRelease => "helm.toolkit.fluxcd.io",
            Self::GitRepository | Self::OciRepository | Self::Bucket => "source.toolkit.fluxcd.io",
        }
    }
    pub fn plural(self) -> &'static str {
        match self {
            Self::Kustomization => "kustomizations",
            Self::HelmRelease => "helmreleases",
            Self::GitRepository => "gitrepositories",
            Self::OciRepository => "ocirepositories",
            Self::Bucket => "buckets",
        }
    }
    pub fn kind(self) -> &'static str {
        match self {
            Self::Kustomization => "Kustomization",
            Self::HelmRelease => "HelmRelease",
            Self::GitRepository => "GitRepository",
            Self::OciRepository => "OCIRepository",
            Self::Bucket => "Bucket",
        }
    }
    /// Returns `resource.group`, as grants write it.
    pub fn resource(self) -> String {
        format!("{}.{}", self.plural(), self.group())
    }
    /// Returns the argument of `flux suspend` and `flux resume`.
    pub fn flux_argument(self) -> &'static str {
        match self {
            Self::Kustomization => "kustomization",
            Self::HelmRelease => "helmrelease",
            Self::GitRepository => "source git",
            Self::OciRepository => "source oci",
            Self::Bucket => "source bucket",
        }
    }
}

/// One Flux object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FluxRef {
    pub kind: FluxKind,
    pub namespace: String,
    pub name: String,
}

impl FluxRef {
    /// # Errors
    /// A name is not valid in Kubernetes.
    pub fn validate(&self) -> Result<(), Error> {
        name::namespace(&self.namespace)?;
        name::object(&self.name)
    }
    pub fn target(&self) -> Target {
        Target::object(&self.namespace, &self.name)
            .with_kind(self.kind.resource(), self.kind.kind())
    }
}

impl fmt::Display for FluxRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.kind(), self.namespace, self.name)
    }
}

/// An entry of `status.conditions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    pub reason: String,
    pub message: String,
    /// `lastTransitionTime`.
    pub since: Option<Millis>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    pub ready: bool,
    pub terminating: bool,
    /// Restarts of all containers together.
    pub restarts: u32,
    pub created: Millis,
    /// Why a container is waiting, or why the pod is not scheduled.
    pub waiting: Option<String>,
    /// Names of the PVCs that it mounts.
    pub pvcs: Vec<String>,
    /// `Kind/name` of its controller.
    pub owner: Option<String>,
    /// `spec.nodeName`.
    pub node: Option<String>,
    /// Init containers first, each in the order of the status.
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    pub state: ContainerState,
    /// Why it is waiting or has terminated.
    pub reason: Option<String>,
    pub ready: bool,
    pub restarts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerState {
    Waiting,
    Running,
    Terminated,
}

/// A `coordination.k8s.io` Lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    pub namespace: String,
    pub name: String,
    /// `spec.holderIdentity`.
    pub holder: Option<String>,
    /// `spec.acquireTime`.
    pub acquired: Option<Millis>,
    /// `spec.renewTime`.
    pub renewed: Option<Millis>,
    /// `spec.leaseDurationSeconds`.
    pub duration_seconds: u32,
}

pub(super) fn validate_namespaces(namespaces: &[String]) -> Result<(), Error> {
    if namespaces.is_empty() || namespaces.len() > 500 {
        return Err(Error::Invalid(format!(
            "{} namespaces named: 1 to 500 can be asked about in one call",
            namespaces.len()
        )));
    }
    namespaces.iter().try_for_each(|n| name::namespace(n))
}

pub(super) fn all_of(namespaces: &[String]) -> Vec<Target> {
    namespaces.iter().map(|n| Target::all_of(n)).collect()
}

/// Returns the Flux kinds as grants write them.
pub(super) fn flux_kinds() -> Vec<String> {
    FluxKind::ALL.into_iter().map(FluxKind::resource).collect()
}

/// Returns a rule for each Flux kind that the grant covers.
pub(super) fn flux_rules(verb: Verb, scope: Scope, grant: Option<&Grant>) -> Vec<Rule> {
    let kinds = grant.and_then(|grant| grant.kinds.as_deref());
    FluxKind::ALL
        .into_iter()
        .filter(|kind| GrantKinds::covers(kinds, &kind.resource()))
        .map(|kind| Rule::new(verb, kind.group(), kind.plural(), scope))
        .collect()
}

/// Returns the rules for reading the owners that labels name, of whatever kind may be asked about.
pub(super) fn flux_owner_rules() -> Vec<Rule> {
    [FluxKind::Kustomization, FluxKind::HelmRelease]
        .map(|kind| Rule::new(Verb::Get, kind.group(), kind.plural(), Scope::GrantedNamespaces))
        .into()
}
