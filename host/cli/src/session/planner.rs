//! Plans a run again before the first write of its approved plan.

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::document::Limits;
use salve_core::journal::{Failure, GuestExit};
use salve_core::outcome::Fault;
use salve_run::{Planner, Run};
use salve_sandbox::Linked;
use tokio::task::JoinSet;

/// Calls the guest of a run a second time.
pub struct SecondCall {
    pub linked: Linked,
    pub configuration: String,
    pub limits: Limits,
}

impl Planner for SecondCall {
    fn plan(&self, run: Run) -> BoxFuture<'static, GuestExit> {
        let (linked, configuration, limits) =
            (self.linked.clone(), self.configuration.clone(), self.limits);
        let call = async move {
            let mut slot = Some(run);
            match linked.remediate(&mut slot, &configuration, limits).await {
                Ok(conclusion) => GuestExit::Concluded(conclusion),
                Err(error) => slot.map_or_else(|| failed(&error), |run| error.to_guest_exit(&run)),
            }
        };
        async move {
            // The first call is on the stack of its guest. The second gets one of its own.
            let mut tasks = JoinSet::new();
            tasks.spawn(call);
            match tasks.join_next().await {
                Some(Ok(exit)) => exit,
                Some(Err(error)) => failed(&error),
                None => failed(&"it was not called"),
            }
        }
        .boxed()
    }
}

fn failed(error: &dyn std::fmt::Display) -> GuestExit {
    let text = format!("internal error: failed to call the guest again: {error}");
    GuestExit::Failed(Failure { fault: Fault::Host, text })
}
