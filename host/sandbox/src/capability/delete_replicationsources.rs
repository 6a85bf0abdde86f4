//! `delete-replicationsources`: deletes a fixed set of ReplicationSources.

use super::{convert_all, list_into_wit};
use crate::bindings::salve::cluster::{delete_replicationsources as wit, types};
use crate::state::State;
use salve_core::capability::delete_replicationsources as core;

impl wit::Host for State {
    async fn delete(
        &mut self,
        targets: Vec<wit::DeletionTarget>,
        pacing: wit::Pacing,
    ) -> wasmtime::Result<Result<Vec<wit::Deletion>, types::Error>> {
        let pacing =
            core::Pacing { batch_size: pacing.batch_size, interval_ms: pacing.interval_ms };
        Ok(list_into_wit(self.call(core::Delete { set: convert_all(targets), pacing }).await?))
    }
}

impl From<wit::DeletionTarget> for core::DeletionTarget {
    fn from(target: wit::DeletionTarget) -> Self {
        Self {
            object: target.object.into(),
            uid: target.uid,
            digest: target.digest,
            reason: target.reason,
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
    fn from(outcome: core::DeletionOutcome) -> Self {
        match outcome {
            core::DeletionOutcome::Deleted => Self::Deleted,
            core::DeletionOutcome::AlreadyGone => Self::AlreadyGone,
            core::DeletionOutcome::Replaced => Self::Replaced,
            core::DeletionOutcome::Changed => Self::Changed,
            core::DeletionOutcome::Rejected => Self::Rejected,
            core::DeletionOutcome::Unknown => Self::Unknown,
        }
    }
}
