//! `query-flux`: which Flux object owns another, and who suspended it.

use super::{convert_all, into_wit, list_into_wit};
use crate::bindings::salve::cluster::{query_flux as wit, types};
use crate::state::State;
use salve_core::capability::query_flux as core;

impl wit::Host for State {
    async fn find_owners(
        &mut self,
        subjects: Vec<wit::Subject>,
    ) -> wasmtime::Result<Result<Vec<wit::OwnerInfo>, types::Error>> {
        Ok(list_into_wit(self.call(core::FindOwners { subjects: convert_all(subjects) }).await?))
    }

    async fn get(
        &mut self,
        target: types::FluxRef,
    ) -> wasmtime::Result<Result<wit::FluxObject, types::Error>> {
        Ok(into_wit(self.call(core::GetFluxObject { target: target.into() }).await?))
    }
}

impl From<wit::Subject> for core::Subject {
    fn from(subject: wit::Subject) -> Self {
        let kind = match subject.kind {
            wit::SubjectKind::ReplicationSource => core::SubjectKind::ReplicationSource,
            wit::SubjectKind::PersistentVolumeClaim => core::SubjectKind::PersistentVolumeClaim,
            wit::SubjectKind::Deployment => core::SubjectKind::Deployment,
        };
        Self { kind, object: subject.object.into() }
    }
}

impl From<core::Subject> for wit::Subject {
    fn from(subject: core::Subject) -> Self {
        let kind = match subject.kind {
            core::SubjectKind::ReplicationSource => wit::SubjectKind::ReplicationSource,
            core::SubjectKind::PersistentVolumeClaim => wit::SubjectKind::PersistentVolumeClaim,
            core::SubjectKind::Deployment => wit::SubjectKind::Deployment,
        };
        Self { kind, object: subject.object.into() }
    }
}

impl From<core::OwnerInfo> for wit::OwnerInfo {
    fn from(info: core::OwnerInfo) -> Self {
        let ownership = match info.ownership {
            core::Ownership::Managed => wit::Ownership::Managed,
            core::Ownership::Abandoned => wit::Ownership::Abandoned,
            core::Ownership::UnknownOwner => wit::Ownership::UnknownOwner,
            core::Ownership::Foreign => wit::Ownership::Foreign,
            core::Ownership::Unmanaged => wit::Ownership::Unmanaged,
        };
        Self {
            subject: info.subject.into(),
            ownership,
            owner: info.owner.map(Into::into),
            evidence: info.evidence,
        }
    }
}

impl From<core::FluxObject> for wit::FluxObject {
    fn from(object: core::FluxObject) -> Self {
        Self {
            target: object.target.into(),
            uid: object.uid,
            generation: object.generation,
            suspended: object.suspended.map(Into::into),
            ready: object.ready.map(Into::into),
            reconciling: object.reconciling,
            source: object.source.map(Into::into),
            interval_seconds: object.interval_seconds,
            parent: object.parent.map(Into::into),
            parent_reverts: object.parent_reverts,
            parent_waits: object.parent_waits,
            corrects_drift: object.corrects_drift,
        }
    }
}

impl From<core::SuspendedBy> for wit::SuspendedBy {
    fn from(by: core::SuspendedBy) -> Self {
        Self { manager: by.manager, since: by.since, run: by.run }
    }
}
