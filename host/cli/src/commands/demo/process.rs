//! The child process of the demo, which applies the plan and is killed halfway through.

use crate::arguments::GuestOptions;
use crate::cluster::ClusterSession;
use crate::output::CommandError;
use crate::plans::Plan;
use crate::runs;
use crate::session::{Frontend, PreparedRun};
use clap::Args;
use salve_run::Mode;
use salve_simulator::{Fault, Remote, Simulator};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::Command;

/// Hidden flags that the demo passes to its child process.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Address on which the demo serves its cluster.
    #[arg(long, hide = true, requires = "child_plan")]
    child_cluster: Option<SocketAddr>,
    /// ID of the plan to apply.
    #[arg(long, hide = true)]
    child_plan: Option<String>,
}

impl Arguments {
    /// Returns the demo's cluster if this is the child process.
    pub fn cluster(&self) -> Option<Remote> {
        self.child_cluster.map(Remote::new)
    }

    /// Returns the ID of the plan to apply.
    pub fn plan(&self) -> &str {
        self.child_plan.as_deref().unwrap_or_default()
    }
}

/// The number of deletions before the kill. The response to the last one is never sent.
const DELETIONS: usize = 4;

/// Applies the plan to the demo's cluster, in the child process. It is killed before it returns.
pub async fn run(
    remote: Remote,
    folder: &Path,
    plan: &str,
    verbose: u8,
) -> Result<u8, CommandError> {
    let plan = Plan::open(folder, plan)?;
    let prepared = PreparedRun::prepare(plan.resolve_guest()?, &GuestOptions::default())
        .await?
        .bound_to(plan)?;
    let cluster = ClusterSession::simulated_remote(remote).await?;
    let frontend = Frontend::terminal(verbose, false);
    let finished = prepared.run(Mode::Live, &cluster, Some(folder), frontend).await?;
    Ok(finished.result.exit_code())
}

/// Starts a child process that applies the plan, kills it in the middle of the deletions, and
/// returns its run file.
pub async fn run_and_kill(
    simulator: &Simulator,
    folder: &Path,
    plan: &str,
    verbose: u8,
) -> Result<PathBuf, CommandError> {
    let failed_to = |what: &'static str| {
        move |e: std::io::Error| CommandError::host(format!("failed to {what}: {e}"))
    };
    simulator.fault(
        Fault::no_response().on("delete").at("replicationsources").nth(DELETIONS).after_applying(),
    );
    let before = runs::all(folder)?;
    let listener =
        TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed_to("listen on 127.0.0.1"))?;
    let address = listener.local_addr().map_err(failed_to("get the listener's address"))?;
    let program = std::env::current_exe().map_err(failed_to("find the salve executable"))?;
    let mut command = Command::new(program);
    command.arg("demo").arg("--runs").arg(folder).args([
        "--child-cluster",
        &address.to_string(),
        "--child-plan",
        plan,
    ]);
    command.args((0..verbose).map(|_| "--verbose")).stdin(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed_to("start the child process"))?;
    tokio::select! {
        served = salve_simulator::serve(simulator.clone(), listener, 0.0) => {
            served.map_err(failed_to("serve the simulated cluster"))?
        }
        () = lost_response(simulator) => {}
        exited = child.wait() => {
            let status = exited.map_err(failed_to("wait for the child process"))?;
            return Err(CommandError::host(format!(
                "the child process exited before it could be killed: {status}"
            )));
        }
        _ = tokio::signal::ctrl_c() => {
            return Err(CommandError::usage("interrupted; the simulated cluster is gone"));
        }
    }
    child.kill().await.map_err(failed_to("kill the child process"))?;
    let new = runs::all(folder)?.into_iter().find(|file| !before.contains(file));
    new.ok_or_else(|| CommandError::host("the killed process left no run file"))
}

/// Waits until the API server has applied a write without sending a response.
async fn lost_response(simulator: &Simulator) {
    while !simulator
        .mutations()
        .iter()
        .any(|exchange| exchange.applied && exchange.status.is_none())
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
