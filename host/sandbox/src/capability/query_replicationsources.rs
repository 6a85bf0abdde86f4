//! `query-replicationsources`: which backups run, and whether their PVCs still exist.

use super::list_into_wit;
use crate::bindings::salve::cluster::{query_replicationsources as wit, types};
use crate::state::State;
use salve_core::capability::query_replicationsources as core;

impl wit::Host for State {
    async fn list_sources(
        &mut self,
        namespaces: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<wit::Source>, types::Error>> {
        Ok(list_into_wit(self.call(core::ListSources { namespaces }).await?))
    }

    async fn list_destinations(
        &mut self,
        namespaces: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<wit::Destination>, types::Error>> {
        Ok(list_into_wit(self.call(core::ListDestinations { namespaces }).await?))
    }
}

impl From<core::Source> for wit::Source {
    fn from(source: core::Source) -> Self {
        Self {
            object: source.object.into(),
            uid: source.uid,
            generation: source.generation,
            digest: source.digest,
            created: source.created,
            pvc: source.pvc,
            pvc_state: source.pvc_state.into(),
            health: source.health.into(),
            mover: source.mover,
            has_identity: source.has_identity,
            schedule: source.schedule,
            paused: source.paused,
            syncing_since: source.syncing_since,
            last_sync: source.last_sync,
            last_result: source.last_result,
            last_log: source.last_log,
            copy_method: source.copy_method,
            condition: source.condition.map(Into::into),
            labelled_owner: source.labelled_owner.map(Into::into),
        }
    }
}

impl From<core::PvcState> for wit::PvcState {
    fn from(state: core::PvcState) -> Self {
        match state {
            core::PvcState::Present => Self::Present,
            core::PvcState::Unbound => Self::Unbound,
            core::PvcState::Terminating => Self::Terminating,
            core::PvcState::Missing => Self::Missing,
            core::PvcState::None => Self::None,
        }
    }
}

impl From<core::Health> for wit::Health {
    fn from(health: core::Health) -> Self {
        match health {
            core::Health::Healthy => Self::Healthy,
            core::Health::Orphan => Self::Orphan,
            core::Health::TerminatingSource => Self::TerminatingSource,
            core::Health::UnboundSource => Self::UnboundSource,
            core::Health::Stuck => Self::Stuck,
            core::Health::External => Self::External,
        }
    }
}

impl From<core::Destination> for wit::Destination {
    fn from(destination: core::Destination) -> Self {
        Self {
            object: destination.object.into(),
            uid: destination.uid,
            trigger: destination.trigger,
            done: destination.done,
            syncing_since: destination.syncing_since,
            last_sync: destination.last_sync,
            latest_image: destination.latest_image,
            condition: destination.condition.map(Into::into),
        }
    }
}
