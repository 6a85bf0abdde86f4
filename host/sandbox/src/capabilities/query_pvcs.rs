//! `query-pvcs`: claims and snapshots, and why a claim waits.

use super::told_each;
use crate::bindings::salve::cluster::{query_pvcs as wit, types};
use crate::state::State;
use salve_core::effect::query_pvcs as core;

impl wit::Host for State {
    async fn claims(
        &mut self,
        namespaces: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<wit::Claim>, types::Error>> {
        Ok(told_each(self.ask(core::Claims { namespaces }).await?))
    }

    async fn snapshots(
        &mut self,
        namespaces: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<wit::Snapshot>, types::Error>> {
        Ok(told_each(self.ask(core::Snapshots { namespaces }).await?))
    }
}

impl From<core::Claim> for wit::Claim {
    fn from(claim: core::Claim) -> Self {
        Self {
            object: claim.object.into(),
            uid: claim.uid,
            created: claim.created,
            phase: claim.phase.into(),
            deleting_since: claim.deleting_since,
            waiting: claim.waiting.map(Into::into),
            evidence: claim.evidence,
            storage_class: claim.storage_class,
            driver: claim.driver,
            volume: claim.volume,
            reclaim: claim.reclaim.map(Into::into),
            data_source: claim.data_source,
            stands_for: claim.stands_for,
            owner: claim.owner,
            finalizers: claim.finalizers,
        }
    }
}

impl From<core::Phase> for wit::Phase {
    fn from(phase: core::Phase) -> Self {
        match phase {
            core::Phase::Pending => Self::Pending,
            core::Phase::Bound => Self::Bound,
            core::Phase::Lost => Self::Lost,
        }
    }
}

impl From<core::Waiting> for wit::Waiting {
    fn from(waiting: core::Waiting) -> Self {
        match waiting {
            core::Waiting::ForFirstConsumer => Self::ForFirstConsumer,
            core::Waiting::CsiLocked => Self::CsiLocked,
            core::Waiting::CsiSlow => Self::CsiSlow,
            core::Waiting::ForDestination => Self::ForDestination,
            core::Waiting::Populating => Self::Populating,
            core::Waiting::ForSnapshot => Self::ForSnapshot,
            core::Waiting::NoProvisioner => Self::NoProvisioner,
            core::Waiting::Misconfigured => Self::Misconfigured,
            core::Waiting::Deleting => Self::Deleting,
            core::Waiting::Unknown => Self::Unknown,
        }
    }
}

impl From<core::Reclaim> for wit::Reclaim {
    fn from(reclaim: core::Reclaim) -> Self {
        match reclaim {
            core::Reclaim::Delete => Self::Delete,
            core::Reclaim::Retain => Self::Retain,
            core::Reclaim::Recycle => Self::Recycle,
        }
    }
}

impl From<core::Snapshot> for wit::Snapshot {
    fn from(snapshot: core::Snapshot) -> Self {
        Self {
            object: snapshot.object.into(),
            uid: snapshot.uid,
            created: snapshot.created,
            deleting_since: snapshot.deleting_since,
            ready: snapshot.ready,
            claim: snapshot.claim,
            content: snapshot.content,
            owner: snapshot.owner,
            owner_uid: snapshot.owner_uid,
            problem: snapshot.problem,
        }
    }
}
