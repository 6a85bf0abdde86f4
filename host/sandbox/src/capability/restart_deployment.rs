//! `restart-deployment`: restarts one Deployment and waits for its rollout.

use super::{convert_all, into_wit};
use crate::bindings::salve::cluster::{restart_deployment as wit, types};
use crate::state::State;
use salve_core::capability::restart_deployment as core;

impl wit::Host for State {
    async fn restart(
        &mut self,
        target: types::ObjectRef,
        uid: String,
        strategy: wit::Strategy,
    ) -> wasmtime::Result<Result<wit::Restarted, types::Error>> {
        Ok(into_wit(
            self.call(core::Restart { target: target.into(), uid, strategy: strategy.into() })
                .await?,
        ))
    }

    async fn await_rollout(
        &mut self,
        target: types::ObjectRef,
        restarted: wit::Restarted,
        leases: Vec<String>,
        wait_seconds: u32,
    ) -> wasmtime::Result<Result<wit::Rollout, types::Error>> {
        Ok(into_wit(
            self.call(core::AwaitRollout {
                target: target.into(),
                restarted: restarted.into(),
                leases,
                wait_seconds,
            })
            .await?,
        ))
    }
}

impl From<wit::Strategy> for core::Strategy {
    fn from(strategy: wit::Strategy) -> Self {
        match strategy {
            wit::Strategy::Annotate => Self::Annotate,
            wit::Strategy::ReplacePods => Self::ReplacePods,
        }
    }
}

impl From<core::Restarted> for wit::Restarted {
    fn from(restarted: core::Restarted) -> Self {
        Self { at: restarted.at, old_pods: restarted.old_pods }
    }
}

impl From<wit::Restarted> for core::Restarted {
    fn from(restarted: wit::Restarted) -> Self {
        Self { at: restarted.at, old_pods: restarted.old_pods }
    }
}

impl From<core::Rollout> for wit::Rollout {
    fn from(rollout: core::Rollout) -> Self {
        Self {
            done: rollout.done,
            waiting_for: rollout.waiting_for,
            pods: convert_all(rollout.pods),
            leases: convert_all(rollout.leases),
        }
    }
}
