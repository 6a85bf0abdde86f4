//! `salve sim`: the simulated cluster on loopback, for kubectl and for runs.

use crate::output::{Failed, HEADING, MUTED};
use clap::Args;
use salve_simulator::{Incident, Simulator};
use std::path::PathBuf;
use tokio::net::TcpListener;

/// Serves the simulated cluster on loopback and writes its kubeconfig. Ends with Ctrl-C.
///
/// Everything that reads a kubeconfig works on it: kubectl, and every command of Salve.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  salve sim --kubeconfig-out sim.yaml\n  kubectl --kubeconfig sim.yaml get pvc -A\n  salve check volsync-unlock --kubeconfig sim.yaml"
)]
pub struct Sim {
    /// What is wrong in it.
    #[arg(long, default_value_t = Incident::Playbook, value_name = "NAME", help = incidents())]
    incident: Incident,
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where the kubeconfig goes.
    #[arg(long, value_name = "FILE", default_value = "salve-sim.kubeconfig")]
    kubeconfig_out: PathBuf,
    /// How fast its time runs: 60 makes a minute of each second.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
}

fn incidents() -> String {
    let all: Vec<_> = Incident::ALL.iter().map(|i| format!("{i}: {}", i.description())).collect();
    format!("What is wrong in it:\n{}", all.join("\n"))
}

impl Sim {
    /// Serves until somebody stops it.
    pub async fn execute(self) -> Result<u8, Failed> {
        if !(self.speed > 0.0 && self.speed <= 10_000.0) {
            return Err(Failed::usage("--speed: more than 0, at most 10000"));
        }
        let listener = TcpListener::bind(("127.0.0.1", self.port))
            .await
            .map_err(|e| Failed::host(format!("127.0.0.1:{}: {e}", self.port)))?;
        let address = listener.local_addr().map_err(|e| Failed::host(e.to_string()))?;
        let other = std::fs::read_to_string(&self.kubeconfig_out)
            .is_ok_and(|text| !text.contains("current-context: salve-simulator"));
        if other {
            return Err(Failed::usage(format!(
                "{} is another kubeconfig: it is not written over",
                self.kubeconfig_out.display()
            )));
        }
        std::fs::write(&self.kubeconfig_out, salve_simulator::kubeconfig(address))
            .map_err(|e| Failed::host(format!("{}: {e}", self.kubeconfig_out.display())))?;
        let file = self.kubeconfig_out.display();
        anstream::println!(
            "{HEADING}simulated cluster{HEADING:#} `{}` on http://{address}, until Ctrl-C",
            self.incident
        );
        anstream::println!("{MUTED}kubeconfig{MUTED:#}  {file}");
        anstream::println!("{MUTED}try{MUTED:#}         kubectl --kubeconfig {file} get pvc -A");
        anstream::println!("            salve check volsync-unlock --kubeconfig {file}");
        let simulator = Simulator::new(self.incident);
        tokio::select! {
            ended = salve_simulator::serve(simulator, listener, self.speed) => ended.map_err(|e| Failed::host(format!("the server ended: {e}")))?,
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(0)
    }
}
