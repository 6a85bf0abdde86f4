//! Ctrl-C during an attack: the run stops and releases its suspensions.

use super::{REMEDIATION, component, is_restored, plex};
use salve_simulator::{Incident, Simulator};
use salve_tests::salve::program;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// Attacks that would not end on their own during the test.
const ENDLESS_ATTACKS: [&str; 3] = ["loop", "copy", "sleep"];

#[tokio::test(flavor = "multi_thread")]
async fn one_interrupt_stops_the_run_in_any_state_and_releases_its_suspensions() {
    for how in ENDLESS_ATTACKS {
        let folder = tempfile::tempdir().unwrap();
        let (document, kubeconfig) =
            (folder.path().join("remediation.yaml"), folder.path().join("kubeconfig"));
        let text = REMEDIATION
            .replace("COMPONENT", &component().display().to_string())
            .replace("fuelBillions: 1}", "fuelBillions: 1000}");
        std::fs::write(&document, text).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        std::fs::write(&kubeconfig, salve_simulator::kubeconfig(listener.local_addr().unwrap()))
            .unwrap();
        let simulator = Simulator::new(Incident::Playbook);
        // Stops with the runtime of the test.
        tokio::spawn(salve_simulator::serve(simulator.clone(), listener, 1.0));
        let mut command = Command::new(program().unwrap());
        command
            .arg("run")
            .arg(&document)
            .args(["--yes", "--config", &format!("how={how}"), "--kubeconfig"])
            .arg(&kubeconfig);
        command
            .arg("--runs")
            .arg(folder.path().join("runs"))
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut run = command.kill_on_drop(true).spawn().unwrap();
        while plex(&simulator)["spec"]["suspend"] != true {
            assert_eq!(run.try_wait().unwrap(), None, "{how} ended before it suspended anything");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let began = Instant::now();
        let id = run.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
        let output = run.wait_with_output().await.unwrap();
        println!("{how}: stopped {} ms after the signal", began.elapsed().as_millis());
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{how}: {text}");
        assert!(text.contains("stopped by you"), "{how}: {text}");
        assert!(is_restored(&simulator), "{how}: {:#}", plex(&simulator));
    }
}
