//! The program on the simulated cluster: signals, lost terminals, and what a killed run leaves.

mod sim;

use sim::{Sim, salve};
use std::io::{BufRead, BufReader, Read, Write};
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
fn signals_resume_what_is_suspended() {
    for name in ["INT", "TERM", "HUP"] {
        let sim = Sim::start("5");
        let mut run = sim
            .run()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        sim.wait_until_suspended(&mut run);
        signal(&run, name);
        let output = run.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains("stopped by you"), "{name}: {text}");
        assert_eq!(sim.doctor().status.code(), Some(0), "{name}");
    }
}

#[test]
fn a_run_whose_output_is_closed_still_stops_and_resumes() {
    let sim = Sim::start("5");
    let mut run = sim
        .run()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sim.wait_until_suspended(&mut run);
    drop(run.stdout.take());
    drop(run.stderr.take());
    signal(&run, "TERM");
    run.wait().unwrap();
    assert_eq!(sim.doctor().status.code(), Some(0));
}

/// The demo ends with success only if its incident is fixed, after a kill and a recovery.
/// `SALVE_STRIDE=3` closes its output after each third line.
#[test]
fn output_that_is_closed_after_any_line_changes_nothing() {
    const STRIDE: usize = 25;
    let stride = std::env::var("SALVE_STRIDE").ok().and_then(|value| value.parse().ok());
    let home = tempfile::tempdir().unwrap();
    let demo = || {
        let mut demo = salve(home.path());
        demo.arg("demo").stdout(Stdio::piped()).stderr(Stdio::null());
        demo
    };
    let lines = demo().output().unwrap().stdout.lines().count();
    assert!(lines > 100, "{lines} lines");
    let closed: Vec<usize> = (0..lines).step_by(stride.unwrap_or(STRIDE)).collect();
    // Each mostly waits for its simulated cluster.
    for batch in closed.chunks(4) {
        std::thread::scope(|scope| {
            for line in batch {
                scope.spawn(move || {
                    let mut demo = demo().spawn().unwrap();
                    let output = BufReader::new(demo.stdout.take().unwrap());
                    assert_eq!(output.lines().take(*line).count(), *line);
                    assert!(demo.wait().unwrap().success(), "closed after {line} lines");
                });
            }
        });
    }
}

#[test]
fn doctor_finds_what_a_killed_run_left_and_prints_the_commands() {
    let sim = Sim::start("5");
    let mut run =
        sim.run().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sim.wait_until_suspended(&mut run);
    run.kill().unwrap();
    run.wait().unwrap();
    let output = sim.doctor();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("flux resume") && text.contains("kubectl annotate"), "{text}");
    let file = salve::runs::all(&sim.home.path().join("runs")).unwrap().remove(0);
    let report =
        salve(sim.home.path()).arg("report").arg(&file).args(["--as", "json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["verdict"], "failed");
    assert!(report["summary"].as_str().unwrap().contains("unfinished"), "{report:#}");
}

#[test]
fn an_unresponsive_cluster_requires_action_and_commands_are_printed() {
    let sim = Sim::start("5");
    let mut run = sim
        .run()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sim.wait_until_suspended(&mut run);
    signal(&sim.child, "STOP");
    signal(&run, "INT");
    signal(&run, "INT");
    let output = run.wait_with_output().unwrap();
    signal(&sim.child, "CONT");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("ACTION REQUIRED") && text.contains("flux resume"), "{text}");
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
fn output_of_an_exec_plugin_is_never_printed() {
    let sim = Sim::start("1");
    let plugin = "user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, 'echo canary-one >&2; echo canary-two; exit 3'], interactiveMode: Never, env: [{name: KEY, value: canary-three}]}}";
    let text = std::fs::read_to_string(&sim.kubeconfig).unwrap();
    assert!(text.contains("user: {}"), "{text}");
    std::fs::write(&sim.kubeconfig, text.replace("user: {}", plugin)).unwrap();
    let output =
        sim.salve(&["-vv", "check", "volsync-unlock"]).env("RUST_LOG", "trace").output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("exec plugin") && !text.contains("canary"), "{text}");
}

#[test]
fn vv_logs_each_request() {
    let sim = Sim::start("1");
    let log = |flag: &str| {
        let output = sim.salve(&[flag, "check", "volsync-unlock"]).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = log("-vv");
    for part in ["method=GET", "/api/v1/namespaces/kube-system", "status=200", "duration_ms="] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    let text = log("-v");
    assert!(!text.contains("duration_ms="), "{text}");
}

/// A pipe that is full, such as that of a pager which waits, or a terminal that was stopped.
#[test]
fn a_run_whose_output_nobody_reads_still_stops_and_resumes() {
    let sim = Sim::start("5");
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    // The capacity of a pipe.
    writer.write_all(&[b'.'; 65_536]).unwrap();
    let mut run = sim
        .run()
        .arg("-vv")
        .stdin(Stdio::null())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    sim.wait_until_suspended(&mut run);
    signal(&run, "INT");
    sim.wait_until("the release", |sim| sim.doctor().status.code() == Some(0));
    assert!(run.try_wait().unwrap().is_none(), "the report was not read yet");
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(1), "{text}");
    let order =
        ["  1 evidence", "  2 suspend", "stopping at the next safe point", "stopped by you"];
    let places = order.map(|part| text.find(part).unwrap_or_else(|| panic!("{part}: {text}")));
    assert!(places.is_sorted(), "{text}");
}
