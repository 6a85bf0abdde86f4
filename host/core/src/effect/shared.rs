//! Words that several capabilities share: `wit/types.wit` as plain data.

use super::Target;
use crate::{Millis, name, outcome::Error};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A namespaced object of a kind that the call says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// From its two names.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
    /// Both names as Kubernetes allows them.
    pub fn check(&self) -> Result<(), Error> {
        name::namespace(&self.namespace)?;
        name::object(&self.name)
    }
    /// As a target of grants.
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
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Kustomization,
        Self::HelmRelease,
        Self::GitRepository,
        Self::OciRepository,
        Self::Bucket,
    ];
    /// The API group.
    pub fn group(self) -> &'static str {
        match self {
            Self::Kustomization => "kustomize.toolkit.fluxcd.io",
            Self::HelmRelease => "helm.toolkit.fluxcd.io",
            Self::GitRepository | Self::OciRepository | Self::Bucket => "source.toolkit.fluxcd.io",
        }
    }
    /// The plural in lower case.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Kustomization => "kustomizations",
            Self::HelmRelease => "helmreleases",
            Self::GitRepository => "gitrepositories",
            Self::OciRepository => "ocirepositories",
            Self::Bucket => "buckets",
        }
    }
    /// As manifests spell it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Kustomization => "Kustomization",
            Self::HelmRelease => "HelmRelease",
            Self::GitRepository => "GitRepository",
            Self::OciRepository => "OCIRepository",
            Self::Bucket => "Bucket",
        }
    }
    /// As grants and configuration spell it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kustomization => "kustomization",
            Self::HelmRelease => "helm-release",
            Self::GitRepository => "git-repository",
            Self::OciRepository => "oci-repository",
            Self::Bucket => "bucket",
        }
    }
    /// As the flux command spells it after `suspend` and `resume`.
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
    /// Its kind.
    pub kind: FluxKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl FluxRef {
    /// Both names as Kubernetes allows them.
    pub fn check(&self) -> Result<(), Error> {
        name::namespace(&self.namespace)?;
        name::object(&self.name)
    }
    /// As a target of grants.
    pub fn target(&self) -> Target {
        Target::object(&self.namespace, &self.name).kind(self.kind.word())
    }
}

impl fmt::Display for FluxRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.kind(), self.namespace, self.name)
    }
}

/// One entry of `status.conditions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Its type.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// When it came to this status.
    pub since: Option<Millis>,
}

/// A pod, as far as a restart or a count needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// Condition Ready is True.
    pub ready: bool,
    /// It has a deletionTimestamp.
    pub terminating: bool,
    /// Restarts of all its containers together.
    pub restarts: u32,
    /// When it was made.
    pub created: Millis,
    /// Why a container waits, or why the pod is not scheduled.
    pub waiting: Option<String>,
    /// Names of the claims that it mounts.
    pub pvcs: Vec<String>,
    /// `Kind/name` of its controller.
    pub owner: Option<String>,
}

/// A `coordination.k8s.io` Lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
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

pub(super) fn check_namespaces(namespaces: &[String]) -> Result<(), Error> {
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
