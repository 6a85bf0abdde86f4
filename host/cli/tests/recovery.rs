//! Killed runs and their run files on the simulated cluster: recover, replay, undo, runs, doctor.

mod sim;

use serde_json::Value;
use sim::{Sim, salve};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// Short fixed waits, and long timeouts for waits that end with a condition, so that a slow machine
/// gives the same results.
const QUICK: &[&str] = &[
    "stabilizationWindowSeconds=2",
    "snapshotTimeoutSeconds=5",
    "restoreTimeoutSeconds=2",
    "resumeTimeoutSeconds=600",
    "recoveryTimeoutSeconds=7200",
    "deletionIntervalMs=200",
    "logWindowSeconds=120",
];

/// Adds [`QUICK`], and the shipped Remediation with a deadline of 10 h and short windows.
fn configure(sim: &Sim, command: &mut Command) {
    let shipped = include_str!("../../../guests/volsync-unlock/remediation.yaml");
    let text = shipped.replace("limits: {", "limits: {deadlineSeconds: 36000, ");
    assert_ne!(text, shipped);
    let text = text.replace("window: 5m", "window: 30s").replace("window: 1m", "window: 5s");
    let path = sim.home.path().join("remediation.yaml");
    std::fs::write(&path, text).unwrap();
    command.arg("--remediation").arg(path);
    for key in QUICK {
        command.args(["--config", key]);
    }
}

fn started(sim: &Sim) -> Child {
    let mut command = sim.run();
    configure(sim, &mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Starts a run, and kills it once it has suspended something.
fn killed() -> Sim {
    let sim = Sim::start("60");
    let mut run = started(&sim);
    sim.wait_until_suspended(&mut run);
    run.kill().unwrap();
    run.wait().unwrap();
    sim
}

fn output_text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs a command, checks its exit code, and returns its output.
#[track_caller]
fn output_of(command: &mut Command, code: i32) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = output_text(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

/// Returns a command that needs no cluster.
fn offline(sim: &Sim, arguments: &[&str]) -> Command {
    let mut command = salve(sim.home.path());
    command.args(arguments).arg("--runs").arg(sim.runs());
    command
}

/// Returns a command on the cluster.
fn online(sim: &Sim, arguments: &[&str]) -> Command {
    let mut command = sim.salve(arguments);
    command.arg("--runs").arg(sim.runs());
    command
}

fn file(sim: &Sim) -> PathBuf {
    salve::runs::all(&sim.runs()).unwrap().remove(0)
}

fn id(sim: &Sim) -> String {
    let name = file(sim).file_stem().unwrap().to_string_lossy().into_owned();
    name.rsplit_once('-').unwrap().1.to_owned()
}

fn sources(sim: &Sim) -> Vec<String> {
    let kubectl = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(&sim.kubeconfig)
        .args(["get", "replicationsources", "-A", "-o", "json"])
        .output()
        .unwrap();
    let list: Value = serde_json::from_slice(&kubectl.stdout).unwrap();
    let name = |o: &Value| {
        format!(
            "{}/{}",
            o["metadata"]["namespace"].as_str().unwrap(),
            o["metadata"]["name"].as_str().unwrap()
        )
    };
    list["items"].as_array().unwrap().iter().map(name).collect()
}

#[test]
fn a_killed_run_can_be_recovered_reported_replayed_and_undone() {
    let sim = killed();
    let id = id(&sim);
    let text = output_of(&mut offline(&sim, &["runs"]), 0);
    assert!(text.contains("crashed") && text.contains(&format!("salve recover {id}")), "{text}");
    let locked = output_of(&mut online(&sim, &["run", "volsync-unlock", "--yes"]), 4);
    assert!(
        locked.contains(&id) && locked.contains("salve recover"),
        "another run is rejected with the id of this one: {locked}"
    );

    let doctor = output_of(&mut sim.salve(&["doctor"]), 5);
    assert!(
        doctor.contains("NOT CLEAN")
            && doctor.contains("flux resume")
            && doctor.contains("Lease default/salve")
            && doctor.contains(&id),
        "{doctor}"
    );

    let foreign = sim.home.path().join("foreign.jsonl");
    std::fs::copy(file(&sim), &foreign).unwrap();
    let refused = output_of(&mut online(&sim, &["recover", &foreign.display().to_string()]), 2);
    assert!(
        refused.contains("--policy FILE") && refused.contains("--release"),
        "its grants are not trusted: {refused}"
    );

    let others = sim.home.path().join("others.yaml");
    let none = format!(
        "apiVersion: salve.dev/v1alpha1\nkind: RemediationPolicy\nmetadata: {{name: others}}\nspec: {{grants: [], digests: ['sha256:{}']}}\n",
        "0".repeat(64)
    );
    std::fs::write(&others, none).unwrap();
    let refused = output_of(online(&sim, &["recover"]).arg("--policy").arg(&others), 3);
    assert!(
        refused.contains("others.yaml: spec.digests") && refused.contains("--release"),
        "the policy does not allow this component: {refused}"
    );

    let text = output_of(&mut online(&sim, &["recover"]), 0);
    assert!(text.contains("FIXED") && text.contains("resuming the run"), "{text}");
    for form in ["terminal", "json", "markdown", "html"] {
        let report = output_of(&mut offline(&sim, &["report", &id, "--as", form]), 0);
        assert!(
            ["after its process died", "\"releaseOnly\": false"]
                .iter()
                .any(|part| report.contains(part)),
            "{form}: {report}"
        );
    }
    assert_eq!(sim.doctor().status.code(), Some(0));
    let again = output_of(&mut online(&sim, &["recover", &id]), 0);
    assert!(again.contains("nothing to recover"), "{again}");

    let replay = output_of(&mut offline(&sim, &["replay", &id]), 0);
    assert!(replay.contains("IDENTICAL") && replay.contains("fixed"), "{replay}");
    let policy = sim.home.path().join("strict.yaml");
    let strict = "apiVersion: salve.dev/v1alpha1\nkind: RemediationPolicy\nmetadata: {name: strict}\nspec:\n  grants:\n  - {capability: query-objects, kinds: [namespaces]}\n";
    std::fs::write(&policy, strict).unwrap();
    let diverged = output_of(offline(&sim, &["replay", &id]).arg("--policy").arg(&policy), 1);
    assert!(
        diverged.contains("DIVERGED")
            && diverged.contains("strict.yaml")
            && diverged.contains("would allow it"),
        "{diverged}"
    );

    let before = sources(&sim);
    let refused = output_of(online(&sim, &["undo", &id, "--yes"]).arg("--policy").arg(&policy), 3);
    assert!(refused.contains("DENIED"), "{refused}");
    assert_eq!(sources(&sim), before, "today's policy does not allow it");
    let text = output_of(&mut online(&sim, &["undo", &id, "--yes"]), 0);
    assert!(
        text.contains("RESTORED")
            && text.contains("cannot be restored")
            && text.contains("already exist"),
        "{text}"
    );
    let after = sources(&sim);
    assert!(
        after.contains(&"media/sonarr".to_owned()) && !before.contains(&"media/sonarr".to_owned()),
        "{before:?} {after:?}"
    );
    let nothing = output_of(&mut online(&sim, &["undo", &id, "--yes"]), 0);
    assert!(nothing.contains("NOTHING TO DO"), "{nothing}");
    assert_eq!(sim.doctor().status.code(), Some(0), "undo releases its Lease");

    // An undo that dies halfway leaves only its Lease, which is released; the rest is undone again.
    let mut all = salve::runs::all(&sim.runs())
        .unwrap()
        .into_iter()
        .map(|path| std::fs::read_to_string(path).unwrap());
    let opened = |text: &str| {
        text.lines().position(|line| {
            line.contains("\"opened\"") && line.contains("delete-replicationsources.recreate")
        })
    };
    let (text, opened) = all.find_map(|text| opened(&text).map(|line| (text, line))).unwrap();
    let crashed = sim.runs().join("2031-01-01-x-deadbeef.jsonl");
    std::fs::write(&crashed, text.split_inclusive('\n').take(opened + 1).collect::<String>())
        .unwrap();
    std::fs::set_permissions(&crashed, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let crashed = crashed.display().to_string();
    let text = output_of(&mut online(&sim, &["recover", &crashed]), 2);
    assert!(text.contains("is an undo") && text.contains("--release"), "{text}");
    let text = output_of(&mut online(&sim, &["recover", &crashed, "--release"]), 1);
    assert!(text.contains("its process died"), "{text}");
    assert_eq!(sim.doctor().status.code(), Some(0));
}

/// Advances virtual time.
fn advance(sim: &Sim, milliseconds: u64) {
    use std::io::{Read, Write};
    let kubeconfig = std::fs::read_to_string(&sim.kubeconfig).unwrap();
    let address = kubeconfig.split("http://").nth(1).unwrap().split('"').next().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET /simulated/advance?{milliseconds} HTTP/1.1\r\nhost: simulated\r\nconnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

#[test]
fn a_run_past_its_deadline_is_only_released() {
    let sim = killed();
    let before = sources(&sim);
    advance(&sim, 36_001_000);
    let text = output_of(&mut online(&sim, &["recover"]), 1);
    assert!(text.contains("deadline") && text.contains("NOT FIXED"), "{text}");
    assert_eq!(sim.doctor().status.code(), Some(0));
    let deleted = before.iter().filter(|source| !sources(&sim).contains(source)).count();
    assert_eq!(deleted, 0, "its evidence is too old to act on");
}

#[test]
fn new_writes_of_a_recovery_require_todays_policy() {
    let sim = killed();
    let policy = sim.home.path().join("strict.yaml");
    let strict = "apiVersion: salve.dev/v1alpha1\nkind: RemediationPolicy\nmetadata: {name: strict}\nspec:\n  grants:\n  - {capability: query-objects, kinds: [namespaces]}\n";
    std::fs::write(&policy, strict).unwrap();
    let before = sources(&sim);
    let text = output_text(
        &online(&sim, &["recover"])
            .arg("--policy")
            .arg(&policy)
            .stdin(Stdio::null())
            .output()
            .unwrap(),
    );
    assert!(text.contains("strict.yaml") && !text.contains("FIXED  "), "{text}");
    assert_eq!(sim.doctor().status.code(), Some(0), "what it suspended is resumed nevertheless");
    let deleted = before.iter().filter(|source| !sources(&sim).contains(source)).count();
    assert_eq!(deleted, 0);
}

#[test]
fn doctor_reports_a_leftover_lease() {
    let sim = Sim::start("1");
    let lease = sim.home.path().join("lease.yaml");
    std::fs::write(
        &lease,
        "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: salve, namespace: default}\nspec: {holderIdentity: 0badcafe, acquireTime: '2026-08-20T08:00:00.000000Z', leaseDurationSeconds: 60}\n",
    )
    .unwrap();
    let created = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(&sim.kubeconfig)
        .args(["create", "--validate=false", "-f"])
        .arg(&lease)
        .output()
        .unwrap();
    assert!(created.status.success(), "{}", output_text(&created));
    let text = output_of(&mut sim.salve(&["doctor"]), 5);
    assert!(
        text.contains("NOT CLEAN")
            && text.contains("0badcafe")
            && text.contains("kubectl delete lease salve -n default"),
        "{text}"
    );
}

#[test]
fn doctor_warns_of_sources_without_a_pvc() {
    let sim = Sim::start("1");
    let text = output_of(&mut sim.salve(&["doctor"]), 0);
    assert!(text.contains("CLEAN  no object") && text.contains("WARNING"), "{text}");
    assert!(
        text.contains("media/bazarr")
            && text.contains("kubectl delete replicationsource bazarr -n media"),
        "{text}"
    );
    let found: Value =
        serde_json::from_str(&output_of(&mut sim.salve(&["doctor", "--output", "json"]), 0))
            .unwrap();
    let orphans: Vec<&Value> = found["orphans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|orphan| &orphan["source"]["object"]["name"])
        .collect();
    assert!(orphans.contains(&&Value::from("zigbee2mqtt")), "its PVC is terminating: {orphans:?}");
    assert_eq!((found["items"].as_array().map(Vec::len), &found["lease"]), (Some(0), &Value::Null));
}

#[test]
fn a_plan_is_saved_and_applied_once_by_its_id() {
    let sim = Sim::start("60");
    let out = sim.home.path().join("plan.jsonl");
    let mut plan = online(&sim, &["plan", "volsync-unlock", "--output", "json"]);
    plan.arg("--out").arg(&out);
    configure(&sim, &mut plan);
    let plan: Value = serde_json::from_str(&output_of(&mut plan, 0)).unwrap();
    let id = plan["run"].as_str().unwrap().to_owned();
    assert_eq!(plan["verdict"], "planned");
    let exact: Vec<_> = plan["effects"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|effect| effect["certainty"] == "exact")
        .collect();
    assert!(
        exact.len() >= 3 && exact.iter().all(|effect| effect["details"][0]["reason"].is_string()),
        "{exact:?}"
    );
    assert_eq!(
        std::fs::read(&out).unwrap(),
        std::fs::read(file(&sim)).unwrap(),
        "--out writes the same file"
    );

    let foreign = output_of(online(&sim, &["run"]).arg("--plan").arg(&out), 2);
    assert!(foreign.contains("name its guest"), "{foreign}");
    let other = output_of(
        &mut online(&sim, &["run", "--plan", &id, "--config", "stabilizationWindowSeconds=3"]),
        9,
    );
    assert!(
        other.contains("configuration: stabilizationWindowSeconds = 3 instead of 2"),
        "{other}"
    );
    assert!(sim.doctor().status.success());

    let text = output_of(&mut online(&sim, &["run", "--plan", &id, "--output", "json"]), 0);
    let json = &text[text.find("{\n").unwrap()..=text.rfind("\n}").unwrap() + 1];
    let run: Value = serde_json::from_str(json).unwrap();
    assert_eq!(
        (run["verdict"].as_str(), run["plan"].as_str()),
        (Some("fixed"), Some(id.as_str())),
        "{text}"
    );
    let again = output_of(&mut online(&sim, &["run", "--plan", &id]), 0);
    assert!(again.contains("NOTHING TO DO"), "the plan has been applied: {again}");
}

#[test]
fn a_running_run_cannot_be_recovered() {
    let sim = Sim::start("5");
    let mut run = started(&sim);
    sim.wait_until_suspended(&mut run);
    let id = id(&sim);
    let text = output_of(&mut online(&sim, &["recover", &id]), 2);
    assert!(text.contains("another process is running"), "{text}");
    let text = output_of(&mut offline(&sim, &["runs"]), 0);
    assert!(text.contains("running"), "{text}");
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn a_killed_run_is_released_without_its_component() {
    let sim = killed();
    std::fs::remove_dir_all(sim.runs().join("components")).unwrap();
    let id = id(&sim);
    let text = output_of(&mut online(&sim, &["recover", &id]), 2);
    assert!(text.contains("--release"), "{text}");
    let text = output_of(&mut online(&sim, &["recover", &id, "--release"]), 1);
    assert!(text.contains("its process died during") && text.contains("taken back"), "{text}");
    assert_eq!(sim.doctor().status.code(), Some(0));
}

#[test]
fn a_damaged_run_file_is_only_released() {
    let sim = killed();
    let (path, id) = (file(&sim), id(&sim));
    let mut damaged = std::fs::read(&path).unwrap();
    // A page that never reached the disk, before one that did.
    damaged.extend([&[0; 4096], b"\",\"at\":1}\n".as_slice()].concat());
    std::fs::write(&path, &damaged).unwrap();
    let text = output_of(&mut online(&sim, &["recover", &id, "--release"]), 1);
    assert!(
        text.contains("only what the lines before the damage record")
            && text.contains("taken back"),
        "{text}"
    );
    assert_eq!(sim.doctor().status.code(), Some(0));
    let copy = PathBuf::from(format!("{}.damaged", path.display()));
    assert_eq!(std::fs::read(&copy).unwrap(), damaged);
    let text = output_of(&mut online(&sim, &["recover", &id]), 2);
    assert!(text.contains("was damaged") && text.contains("--release"), "{text}");
    let text = output_of(&mut online(&sim, &["recover", &id, "--release"]), 0);
    assert!(text.contains("nothing to recover"), "{text}");
    output_of(&mut offline(&sim, &["runs", "prune", "--older-than", "0", "--keep", "0"]), 0);
    assert!(!path.exists() && !copy.exists());
}

#[test]
fn a_damaged_run_file_is_reported_by_line_and_left_unchanged() {
    let sim = killed();
    let path = file(&sim);
    let whole = std::fs::read(&path).unwrap();
    let third = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(2).unwrap().0;
    let mut damaged = whole.clone();
    damaged[third - 10] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    for command in ["recover", "replay", "report", "undo"] {
        let mut command = offline(&sim, &[command, &path.display().to_string()]);
        let text = output_of(&mut command, 2);
        assert!(text.contains("line 3"), "{text}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    let text = output_of(&mut offline(&sim, &["recover", &path.display().to_string()]), 2);
    assert!(text.contains("--release"), "{text}");
    // An incomplete last line, as a crash leaves it, is not damage.
    std::fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    let text = output_of(&mut online(&sim, &["recover"]), 0);
    assert!(text.contains("FIXED"), "{text}");
}

#[test]
fn undo_from_a_foreign_run_file_requires_review() {
    let sim = killed();
    output_of(&mut online(&sim, &["recover"]), 0);
    let elsewhere = sim.home.path().join("mail.jsonl");
    std::fs::copy(file(&sim), &elsewhere).unwrap();
    let elsewhere = elsewhere.display().to_string();
    let text = output_of(&mut online(&sim, &["undo", &elsewhere, "--yes"]), 2);
    assert!(text.contains("--policy FILE"), "its documents are not trusted: {text}");
    let policy = sim.home.path().join("policy.yaml");
    std::fs::write(&policy, "apiVersion: salve.dev/v1alpha1\nkind: RemediationPolicy\nmetadata: {name: ours}\nspec: {grants: []}\n").unwrap();
    let policy = policy.display().to_string();
    let text = output_of(&mut online(&sim, &["undo", &elsewhere, "--yes", "--policy", &policy]), 2);
    assert!(text.contains("you must review its"), "{text}");
    // In the folder, but writable by others: foreign, too.
    let inside = sim.runs().join("2026-01-01-x-0badcafe.jsonl");
    std::fs::copy(file(&sim), &inside).unwrap();
    let mut mode = std::fs::metadata(&inside).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o666);
    std::fs::set_permissions(&inside, mode).unwrap();
    let text = output_of(&mut online(&sim, &["undo", "0badcafe", "--yes", "--policy", &policy]), 2);
    assert!(text.contains("you must review its"), "{text}");
}

#[test]
fn prune_removes_old_runs_and_keeps_unfinished_ones() {
    let sim = killed();
    let ended = file(&sim);
    // Another crashed run, which needs the same component.
    std::fs::copy(&ended, sim.runs().join("2030-01-01-x-0badcafe.jsonl")).unwrap();
    output_of(&mut online(&sim, &["recover", &id(&sim)]), 0);
    let all = || salve::runs::all(&sim.runs()).unwrap();
    assert_eq!(all().len(), 2);
    let text = output_of(
        &mut offline(&sim, &["runs", "prune", "--older-than", "0", "--keep", "0", "--dry-run"]),
        0,
    );
    assert!(text.contains("would remove 1 run and 0 components") && all().len() == 2, "{text}");
    output_of(&mut offline(&sim, &["runs", "prune", "--older-than", "0"]), 0);
    assert_eq!(all().len(), 2, "the newest are kept");
    output_of(&mut offline(&sim, &["runs", "prune", "--older-than", "0", "--keep", "0"]), 0);
    assert!(all().len() == 1 && !ended.exists());
    assert!(
        std::fs::read_dir(sim.runs().join("components")).unwrap().count() == 1,
        "recovery needs it"
    );
    output_of(&mut online(&sim, &["recover", "--release"]), 1);
    output_of(&mut offline(&sim, &["runs", "prune", "--older-than", "0", "--keep", "0"]), 0);
    assert!(
        all().is_empty() && std::fs::read_dir(sim.runs().join("components")).unwrap().count() == 0
    );
}
