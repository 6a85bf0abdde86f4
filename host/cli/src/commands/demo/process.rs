//! The process that runs the remediation of the demo, and its end.

use crate::arguments::GuestOptions;
use crate::cluster::ClusterSession;
use crate::output::Failed;
use crate::plans::Plan;
use crate::runs;
use crate::session::{PreparedRun, watcher};
use clap::Args;
use salve_run::Mode;
use salve_simulator::{Fault, Remote, Simulator};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::Command;

/// Whether this is the process that is going to be killed.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the demo serves its cluster.
    #[arg(long, hide = true, requires = "doomed_plan")]
    doomed_on: Option<SocketAddr>,
    /// The plan that it carries out.
    #[arg(long, hide = true)]
    doomed_plan: Option<String>,
}

impl Arguments {
    /// The cluster of the demo, in the process that is going to be killed.
    pub fn cluster(&self) -> Option<Remote> {
        self.doomed_on.map(Remote::new)
    }

    /// The plan that it carries out.
    pub fn plan(&self) -> &str {
        self.doomed_plan.as_deref().unwrap_or_default()
    }
}

/// So many deletions arrive, the last of them unheard.
const DELETIONS: usize = 4;

/// Carries out the plan on the cluster of the demo. It never comes to its end.
pub async fn run(remote: Remote, folder: &Path, plan: &str, verbose: u8) -> Result<u8, Failed> {
    let plan = Plan::open(folder, plan)?;
    let ready =
        PreparedRun::prepare(plan.chosen()?, &GuestOptions::default()).await?.under(plan)?;
    let open = ClusterSession::simulated_elsewhere(remote).await?;
    let over = ready.run(Mode::Live, &open, Some(folder), watcher(verbose, false)).await?;
    Ok(over.closing.exit_code())
}

/// Has a process of its own carry out the plan, kills it in the middle of the deletions, and finds the file that it leaves.
pub async fn killed(
    simulator: &Simulator,
    folder: &Path,
    plan: &str,
    verbose: u8,
) -> Result<PathBuf, Failed> {
    let broken = |what: &'static str| move |e: std::io::Error| Failed::host(format!("{what}: {e}"));
    simulator.fault(
        Fault::silence().on("delete").at("replicationsources").nth(DELETIONS).after_applying(),
    );
    let before = runs::all(folder)?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(broken("127.0.0.1"))?;
    let address = listener.local_addr().map_err(broken("127.0.0.1"))?;
    let mut command = Command::new(std::env::current_exe().map_err(broken("this program"))?);
    command.arg("demo").arg("--runs").arg(folder).args([
        "--doomed-on",
        &address.to_string(),
        "--doomed-plan",
        plan,
    ]);
    command.args((0..verbose).map(|_| "--verbose")).stdin(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(broken("a process of its own"))?;
    tokio::select! {
        served = salve_simulator::serve(simulator.clone(), listener, 0.0) => served.map_err(broken("the simulated cluster"))?,
        () = unheard(simulator) => {}
        ended = child.wait() => {
            let ended = ended.map_err(broken("the process"))?;
            return Err(Failed::host(format!("the process that was to be killed has ended by itself: {ended}")));
        }
        _ = tokio::signal::ctrl_c() => return Err(Failed::usage("stopped: the simulated cluster is gone with this process")),
    }
    child.kill().await.map_err(broken("kill -9"))?;
    let new = runs::all(folder)?.into_iter().find(|file| !before.contains(file));
    new.ok_or_else(|| Failed::host("the process that was killed left no run file"))
}

/// Comes when a request was carried out whose answer nobody hears.
async fn unheard(simulator: &Simulator) {
    while !simulator
        .mutations()
        .iter()
        .any(|exchange| exchange.applied && exchange.status.is_none())
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
