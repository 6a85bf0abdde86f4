//! `types`: types that several interfaces share.

use crate::bindings::salve::cluster::types as wit;
use crate::state::State;
use salve_core::capability::types as core;
use salve_core::outcome;

impl wit::Host for State {}

impl From<wit::Kind> for core::Kind {
    fn from(kind: wit::Kind) -> Self {
        Self { group: kind.group, resource: kind.resource }
    }
}

impl From<outcome::Error> for wit::Error {
    fn from(error: outcome::Error) -> Self {
        match error {
            // A guest cannot act on the difference.
            outcome::Error::Denied(text) | outcome::Error::Forbidden(text) => Self::Denied(text),
            outcome::Error::NotFound(text) => Self::NotFound(text),
            outcome::Error::Conflict(text) => Self::Conflict(text),
            outcome::Error::Invalid(text) => Self::Invalid(text),
            outcome::Error::Unavailable(text) | outcome::Error::Unauthorized(text) => {
                Self::Unavailable(text)
            }
        }
    }
}

impl From<wit::Error> for outcome::Error {
    fn from(error: wit::Error) -> Self {
        match error {
            wit::Error::Denied(text) => Self::Denied(text),
            wit::Error::NotFound(text) => Self::NotFound(text),
            wit::Error::Conflict(text) => Self::Conflict(text),
            wit::Error::Invalid(text) => Self::Invalid(text),
            wit::Error::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

impl From<core::ObjectRef> for wit::ObjectRef {
    fn from(object: core::ObjectRef) -> Self {
        Self { namespace: object.namespace, name: object.name }
    }
}

impl From<wit::ObjectRef> for core::ObjectRef {
    fn from(object: wit::ObjectRef) -> Self {
        Self { namespace: object.namespace, name: object.name }
    }
}

impl From<core::FluxKind> for wit::FluxKind {
    fn from(kind: core::FluxKind) -> Self {
        match kind {
            core::FluxKind::Kustomization => Self::Kustomization,
            core::FluxKind::HelmRelease => Self::HelmRelease,
            core::FluxKind::GitRepository => Self::GitRepository,
            core::FluxKind::OciRepository => Self::OciRepository,
            core::FluxKind::Bucket => Self::Bucket,
        }
    }
}

impl From<wit::FluxKind> for core::FluxKind {
    fn from(kind: wit::FluxKind) -> Self {
        match kind {
            wit::FluxKind::Kustomization => Self::Kustomization,
            wit::FluxKind::HelmRelease => Self::HelmRelease,
            wit::FluxKind::GitRepository => Self::GitRepository,
            wit::FluxKind::OciRepository => Self::OciRepository,
            wit::FluxKind::Bucket => Self::Bucket,
        }
    }
}

impl From<core::FluxRef> for wit::FluxRef {
    fn from(target: core::FluxRef) -> Self {
        Self { kind: target.kind.into(), namespace: target.namespace, name: target.name }
    }
}

impl From<wit::FluxRef> for core::FluxRef {
    fn from(target: wit::FluxRef) -> Self {
        Self { kind: target.kind.into(), namespace: target.namespace, name: target.name }
    }
}

impl From<core::Condition> for wit::Condition {
    fn from(c: core::Condition) -> Self {
        Self {
            kind: c.kind,
            status: c.status,
            reason: c.reason,
            message: c.message,
            since: c.since,
        }
    }
}

impl From<core::Pod> for wit::Pod {
    fn from(pod: core::Pod) -> Self {
        Self {
            namespace: pod.namespace,
            name: pod.name,
            uid: pod.uid,
            phase: pod.phase,
            ready: pod.ready,
            terminating: pod.terminating,
            restarts: pod.restarts,
            created: pod.created,
            waiting: pod.waiting,
            pvcs: pod.pvcs,
            owner: pod.owner,
            node: pod.node,
            containers: pod.containers.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<core::Container> for wit::Container {
    fn from(container: core::Container) -> Self {
        Self {
            name: container.name,
            state: match container.state {
                core::ContainerState::Waiting => wit::ContainerState::Waiting,
                core::ContainerState::Running => wit::ContainerState::Running,
                core::ContainerState::Terminated => wit::ContainerState::Terminated,
            },
            reason: container.reason,
            ready: container.ready,
            restarts: container.restarts,
        }
    }
}

impl From<core::Lease> for wit::Lease {
    fn from(lease: core::Lease) -> Self {
        Self {
            namespace: lease.namespace,
            name: lease.name,
            holder: lease.holder,
            acquired: lease.acquired,
            renewed: lease.renewed,
            duration_seconds: lease.duration_seconds,
        }
    }
}
