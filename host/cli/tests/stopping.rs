//! The binary against the simulated cluster on loopback: signals, lost terminals, and what is left behind.

mod sim;

use sim::{Sim, salve};
use std::process::{Child, Command, Stdio};

fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("sh")
            .args(["-c", r#"kill -"$0" "$1""#, name, &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn signals_and_a_closed_terminal_release_what_is_suspended() {
    for name in ["INT", "TERM", "HUP"] {
        let sim = Sim::start("5");
        let mut run = sim
            .run()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        sim.until_suspended(&mut run);
        signal(&run, name);
        let output = run.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{name}: {told}");
        assert!(told.contains("stopped by you"), "{name}: {told}");
        assert_eq!(sim.doctor().status.code(), Some(0), "{name}");
    }
}

#[test]
fn a_run_that_nobody_reads_any_more_still_heeds_and_releases() {
    let sim = Sim::start("5");
    let mut run = sim
        .run()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sim.until_suspended(&mut run);
    drop(run.stdout.take());
    drop(run.stderr.take());
    signal(&run, "TERM");
    run.wait().unwrap();
    assert_eq!(sim.doctor().status.code(), Some(0));
}

#[test]
fn what_a_killed_run_leaves_is_found_with_what_to_type() {
    let sim = Sim::start("5");
    let mut run =
        sim.run().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sim.until_suspended(&mut run);
    run.kill().unwrap();
    run.wait().unwrap();
    let output = sim.doctor();
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(5), "{told}");
    assert!(told.contains("flux resume") && told.contains("kubectl annotate"), "{told}");
    let file = salve::runs::all(&sim.home.path().join("runs")).unwrap().remove(0);
    let report =
        salve(sim.home.path()).arg("report").arg(&file).args(["--as", "json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["verdict"], "failed");
    assert!(report["sentence"].as_str().unwrap().contains("no end"), "{report:#}");
}

#[test]
fn a_silent_cluster_ends_in_a_loud_verdict_with_what_to_type() {
    let sim = Sim::start("5");
    let mut run = sim
        .run()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sim.until_suspended(&mut run);
    signal(&sim.child, "STOP");
    signal(&run, "INT");
    signal(&run, "INT");
    let output = run.wait_with_output().unwrap();
    signal(&sim.child, "CONT");
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(5), "{told}");
    assert!(told.contains("LEFT OPEN") && told.contains("flux resume"), "{told}");
}

#[test]
fn a_terminal_shows_progress_and_a_pipe_gets_plain_lines() {
    let home = tempfile::tempdir().unwrap();
    let demo = format!("{} demo", env!("CARGO_BIN_EXE_salve"));
    let terminal = Command::new("script")
        .args(["-qec", &demo, "/dev/null"])
        .env("HOME", home.path())
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .output()
        .unwrap();
    let terminal = String::from_utf8_lossy(&terminal.stdout).into_owned();
    assert!(terminal.contains("\u{1b}[") && terminal.contains("FIXED"), "{terminal}");
    let piped = salve(home.path()).arg("demo").env_remove("NO_COLOR").output().unwrap();
    assert!(piped.status.success());
    let piped = [piped.stdout, piped.stderr].concat();
    assert!(!piped.contains(&0x1b) && !piped.contains(&b'\r'));
}

#[test]
fn nothing_of_an_exec_plugin_reaches_a_person_however_much_they_ask() {
    let sim = Sim::start("1");
    let plugin = "user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, 'echo canary-one >&2; echo canary-two; exit 3'], interactiveMode: Never, env: [{name: KEY, value: canary-three}]}}";
    let text = std::fs::read_to_string(&sim.kubeconfig).unwrap();
    assert!(text.contains("user: {}"), "{text}");
    std::fs::write(&sim.kubeconfig, text.replace("user: {}", plugin)).unwrap();
    let output =
        sim.salve(&["-vv", "check", "volsync-unlock"]).env("RUST_LOG", "trace").output().unwrap();
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("exec plugin") && !told.contains("canary"), "{told}");
}
