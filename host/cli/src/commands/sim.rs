//! `salve sim`: serves the simulated cluster on loopback, for kubectl and Salve.

use crate::output::{CommandError, HEADING, MUTED};
use clap::Args;
use salve_core::sanitize::sanitized;
use salve_simulator::{DocumentError, Incident, Scenario, Simulator};
use std::path::PathBuf;
use tokio::net::TcpListener;

/// Serve a simulated cluster on loopback and write its kubeconfig, until Ctrl-C.
///
/// kubectl, Salve, and every other tool that reads a kubeconfig can use it. Nothing is kept when it
/// stops.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    salve sim --kubeconfig-out sim.yaml\n  \
    kubectl --kubeconfig sim.yaml get pvc -A\n  \
    salve check volsync-unlock --kubeconfig sim.yaml\n\n  \
    kubectl get pvc,replicationsources,pods,events -A -o yaml > dump/objects.yaml\n  \
    salve sim --from dump/")]
pub struct Sim {
    /// Built-in scenario to simulate. `--list` lists them.
    #[arg(long, default_value_t = Incident::Playbook, value_name = "NAME")]
    incident: Incident,
    /// Scenario to simulate: a file or a directory with a Scenario, with the output of
    /// `kubectl get -o yaml`, or with both.
    ///
    /// The schema of a Scenario is in schemas/scenario.json. No controller acts on the output of
    /// kubectl: `check` and `plan` it. Secrets are rejected.
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "incident")]
    from: Option<PathBuf>,
    /// List the built-in scenarios, and exit.
    #[arg(long)]
    list: bool,
    /// Port on 127.0.0.1; 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where to write the kubeconfig. Other kubeconfigs are never overwritten.
    #[arg(long, value_name = "FILE", default_value = "salve-sim.kubeconfig")]
    kubeconfig_out: PathBuf,
    /// Speed of the simulated clock: 60 simulates a minute per second.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
}

impl Sim {
    /// Serves the cluster until Ctrl-C.
    pub async fn execute(self) -> Result<u8, CommandError> {
        if self.list {
            list();
            return Ok(0);
        }
        if !(self.speed > 0.0 && self.speed <= 10_000.0) {
            return Err(CommandError::usage("--speed must be greater than 0 and at most 10000"));
        }
        let (name, simulator) = self.simulator()?;
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.map_err(|e| {
            CommandError::host(format!("failed to listen on 127.0.0.1:{}: {e}", self.port))
        })?;
        let address = listener
            .local_addr()
            .map_err(|e| CommandError::host(format!("failed to get the address: {e}")))?;
        let is_foreign = std::fs::read_to_string(&self.kubeconfig_out)
            .is_ok_and(|text| !text.contains("current-context: salve-simulator"));
        let file = self.kubeconfig_out.display();
        if is_foreign {
            return Err(CommandError::usage(format!(
                "refusing to overwrite {file}: it is not the kubeconfig of a simulated cluster"
            )));
        }
        std::fs::write(&self.kubeconfig_out, salve_simulator::kubeconfig(address))
            .map_err(|e| CommandError::host(format!("failed to write {file}: {e}")))?;
        anstream::println!(
            "{HEADING}simulated cluster{HEADING:#} `{}` on http://{address}, stop it with Ctrl-C",
            sanitized(&name)
        );
        for (kind, count) in simulator.left_out() {
            anstream::println!(
                "{MUTED}left out{MUTED:#}    {count} {}: not served without its \
                 CustomResourceDefinition",
                sanitized(&kind)
            );
        }
        anstream::println!("{MUTED}kubeconfig{MUTED:#}  {file}");
        anstream::println!("{MUTED}try{MUTED:#}         kubectl --kubeconfig {file} get pvc -A");
        anstream::println!("            salve check volsync-unlock --kubeconfig {file}");
        tokio::select! {
            served = salve_simulator::serve(simulator, listener, self.speed) => {
                served.map_err(|e| CommandError::host(format!("the server failed: {e}")))?
            }
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(0)
    }

    /// Builds the cluster, and returns it with the name of its scenario.
    fn simulator(&self) -> Result<(String, Simulator), CommandError> {
        let invalid = |error: DocumentError| CommandError::document(error.to_string());
        let scenario = match &self.from {
            Some(path) => Scenario::load(path).map_err(invalid)?,
            None => Scenario::built_in(self.incident),
        };
        let simulator = Simulator::of(&scenario).map_err(invalid)?;
        Ok((scenario.name().to_owned(), simulator))
    }
}

/// Prints the built-in scenarios.
fn list() {
    for incident in Incident::ALL {
        let scenario = Scenario::built_in(incident);
        anstream::println!("{HEADING}{incident}{HEADING:#}  {}", scenario.description());
    }
}
