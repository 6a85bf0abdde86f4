//! `delete-replicationsources`: deletes ReplicationSources of a frozen set.

use super::{each, told_each};
use crate::bindings::salve::cluster::{delete_replicationsources as wit, types};
use crate::state::State;
use salve_core::effect::delete_replicationsources as core;

impl wit::Host for State {
    async fn delete(
        &mut self,
        set: Vec<wit::Frozen>,
        pace: wit::Pace,
    ) -> wasmtime::Result<Result<Vec<wit::Deletion>, types::Error>> {
        let pace = core::Pace { at_once: pace.at_once, pause: pace.pause };
        Ok(told_each(self.ask(core::Delete { set: each(set), pace }).await?))
    }
}

impl From<wit::Frozen> for core::Frozen {
    fn from(frozen: wit::Frozen) -> Self {
        Self {
            object: frozen.object.into(),
            uid: frozen.uid,
            digest: frozen.digest,
            why: frozen.why,
        }
    }
}

impl From<core::Deletion> for wit::Deletion {
    fn from(deletion: core::Deletion) -> Self {
        Self {
            object: deletion.object.into(),
            uid: deletion.uid,
            end: deletion.end.into(),
            message: deletion.message,
        }
    }
}

impl From<core::End> for wit::End {
    fn from(end: core::End) -> Self {
        match end {
            core::End::Deleted => Self::Deleted,
            core::End::AlreadyGone => Self::AlreadyGone,
            core::End::Replaced => Self::Replaced,
            core::End::Changed => Self::Changed,
            core::End::Refused | core::End::Unknown => Self::Refused,
        }
    }
}
