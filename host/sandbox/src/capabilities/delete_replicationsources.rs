//! `delete-replicationsources`: deletes ReplicationSources of a frozen set.

use super::{each, told_each};
use crate::bindings::salve::cluster::{delete_replicationsources as wit, types};
use crate::state::State;
use salve_core::effect::delete_replicationsources as core;

impl wit::Host for State {
    async fn delete(
        &mut self,
        set: Vec<wit::DeletionTarget>,
        pacing: wit::Pacing,
    ) -> wasmtime::Result<Result<Vec<wit::Deletion>, types::Error>> {
        let pacing =
            core::Pacing { batch_size: pacing.batch_size, interval_ms: pacing.interval_ms };
        Ok(told_each(self.ask(core::Delete { set: each(set), pacing }).await?))
    }
}

impl From<wit::DeletionTarget> for core::DeletionTarget {
    fn from(frozen: wit::DeletionTarget) -> Self {
        Self {
            object: frozen.object.into(),
            uid: frozen.uid,
            digest: frozen.digest,
            reason: frozen.reason,
        }
    }
}

impl From<core::Deletion> for wit::Deletion {
    fn from(deletion: core::Deletion) -> Self {
        Self {
            object: deletion.object.into(),
            uid: deletion.uid,
            outcome: deletion.outcome.into(),
            message: deletion.message,
        }
    }
}

impl From<core::DeletionOutcome> for wit::DeletionOutcome {
    fn from(end: core::DeletionOutcome) -> Self {
        match end {
            core::DeletionOutcome::Deleted => Self::Deleted,
            core::DeletionOutcome::AlreadyGone => Self::AlreadyGone,
            core::DeletionOutcome::Replaced => Self::Replaced,
            core::DeletionOutcome::Changed => Self::Changed,
            core::DeletionOutcome::Rejected => Self::Rejected,
            core::DeletionOutcome::Unknown => Self::Unknown,
        }
    }
}
