//! The binary after it was killed, and what its run file is good for: recover, replay, undo, runs.

mod sim;

use serde_json::Value;
use sim::{Sim, salve};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// What always takes its time is short, what ends with its condition is long: a slow machine sees the same.
const QUICK: &[&str] = &[
    "settle=2",
    "snapshot-wait=5",
    "restore-wait=2",
    "resume-wait=600",
    "recovery=7200",
    "timeout=36000",
    "deletion-pause=200",
    "log-window=120",
];

fn started(sim: &Sim) -> Child {
    let mut command = sim.run();
    for key in QUICK {
        command.args(["--config", key]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Starts a run, and kills it once it has suspended something.
fn killed() -> Sim {
    let sim = Sim::start("60");
    let mut run = started(&sim);
    sim.until_suspended(&mut run);
    run.kill().unwrap();
    run.wait().unwrap();
    sim
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[track_caller]
fn ends(command: &mut Command, code: i32) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let told = text(&output);
    assert_eq!(output.status.code(), Some(code), "{told}");
    told
}

/// A command that needs no cluster.
fn offline(sim: &Sim, arguments: &[&str]) -> Command {
    let mut command = salve(sim.home.path());
    command.args(arguments).arg("--runs").arg(sim.runs());
    command
}

/// A command on the cluster.
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
fn a_killed_run_is_finished_and_its_record_is_good_for_all_that_is_said_of_it() {
    let sim = killed();
    let id = id(&sim);
    let told = ends(&mut offline(&sim, &["runs"]), 0);
    assert!(told.contains("died") && told.contains(&format!("salve recover {id}")), "{told}");
    let held = ends(&mut online(&sim, &["run", "volsync-unlock", "--yes"]), 4);
    assert!(
        held.contains(&id) && held.contains("salve recover"),
        "another run is kept off, and told of this one: {held}"
    );

    let left = ends(&mut sim.salve(&["doctor"]), 5);
    assert!(
        left.contains("LEFT OPEN")
            && left.contains("flux resume")
            && left.contains("Lease default/salve")
            && left.contains(&id),
        "{left}"
    );

    let strange = sim.home.path().join("strange.jsonl");
    std::fs::copy(file(&sim), &strange).unwrap();
    let refused = ends(&mut online(&sim, &["recover", &strange.display().to_string()]), 2);
    assert!(
        refused.contains("--policy FILE") && refused.contains("--release"),
        "its grants are its author's word: {refused}"
    );

    let others = sim.home.path().join("others.yaml");
    let none = format!(
        "apiVersion: salve.dev/v1alpha1\nkind: Policy\nmetadata: {{name: others}}\nspec: {{grants: [], digests: ['sha256:{}']}}\n",
        "0".repeat(64)
    );
    std::fs::write(&others, none).unwrap();
    let refused = ends(online(&sim, &["recover"]).arg("--policy").arg(&others), 3);
    assert!(
        refused.contains("others.yaml: spec.digests") && refused.contains("--release"),
        "it may not run any more: {refused}"
    );

    let told = ends(&mut online(&sim, &["recover"]), 0);
    assert!(told.contains("FIXED") && told.contains("taking it up"), "{told}");
    for form in ["terminal", "json", "markdown", "html"] {
        let report = ends(&mut offline(&sim, &["report", &id, "--as", form]), 0);
        assert!(
            ["after its process had died", "\"releaseOnly\": false"]
                .iter()
                .any(|words| report.contains(words)),
            "{form}: {report}"
        );
    }
    assert_eq!(sim.doctor().status.code(), Some(0));
    let again = ends(&mut online(&sim, &["recover", &id]), 0);
    assert!(again.contains("nothing to recover"), "{again}");

    let same = ends(&mut offline(&sim, &["replay", &id]), 0);
    assert!(same.contains("THE SAME") && same.contains("fixed"), "{same}");
    let policy = sim.home.path().join("strict.yaml");
    let strict = "apiVersion: salve.dev/v1alpha1\nkind: Policy\nmetadata: {name: strict}\nspec:\n  grants:\n  - {capability: query-objects, kinds: [namespaces]}\n";
    std::fs::write(&policy, strict).unwrap();
    let parts = ends(offline(&sim, &["replay", &id]).arg("--policy").arg(&policy), 1);
    assert!(
        parts.contains("IT PARTS")
            && parts.contains("strict.yaml")
            && parts.contains("would allow it"),
        "{parts}"
    );

    let before = sources(&sim);
    let refused = ends(online(&sim, &["undo", &id, "--yes"]).arg("--policy").arg(&policy), 3);
    assert!(refused.contains("DENIED"), "{refused}");
    assert_eq!(sources(&sim), before, "never more than today's policy allows");
    let told = ends(&mut online(&sim, &["undo", &id, "--yes"]), 0);
    assert!(
        told.contains("UNDONE")
            && told.contains("what cannot come back")
            && told.contains("there again already"),
        "{told}"
    );
    let after = sources(&sim);
    assert!(
        after.contains(&"media/sonarr".to_owned()) && !before.contains(&"media/sonarr".to_owned()),
        "{before:?} {after:?}"
    );
    let nothing = ends(&mut online(&sim, &["undo", &id, "--yes"]), 0);
    assert!(nothing.contains("NOTHING TO DO"), "{nothing}");
    assert_eq!(sim.doctor().status.code(), Some(0), "undo gives its Lease back");

    // One that dies in the middle holds the cluster at most: that is given back, and what is missing is undone anew.
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
    let died = sim.runs().join("2031-01-01-x-deadbeef.jsonl");
    std::fs::write(&died, text.split_inclusive('\n').take(opened + 1).collect::<String>()).unwrap();
    std::fs::set_permissions(&died, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let died = died.display().to_string();
    let told = ends(&mut online(&sim, &["recover", &died]), 2);
    assert!(told.contains("is an undo") && told.contains("--release"), "{told}");
    let told = ends(&mut online(&sim, &["recover", &died, "--release"]), 1);
    assert!(told.contains("its process died"), "{told}");
    assert_eq!(sim.doctor().status.code(), Some(0));
}

/// Lets virtual time pass.
fn pass(sim: &Sim, milliseconds: u64) {
    use std::io::{Read, Write};
    let kubeconfig = std::fs::read_to_string(&sim.kubeconfig).unwrap();
    let address = kubeconfig.split("http://").nth(1).unwrap().split('"').next().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET /simulated/advance?{milliseconds} HTTP/1.1\r\nhost: simulated\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_run_whose_time_is_over_is_only_released() {
    let sim = killed();
    let before = sources(&sim);
    pass(&sim, 36_001_000);
    let told = ends(&mut online(&sim, &["recover"]), 1);
    assert!(told.contains("meant to be through") && told.contains("NOT FIXED"), "{told}");
    assert_eq!(sim.doctor().status.code(), Some(0));
    let deleted = before.iter().filter(|source| !sources(&sim).contains(source)).count();
    assert_eq!(deleted, 0, "its evidence is too old to act on");
}

#[test]
fn what_a_recovery_does_anew_has_to_be_allowed_today() {
    let sim = killed();
    let policy = sim.home.path().join("strict.yaml");
    let strict = "apiVersion: salve.dev/v1alpha1\nkind: Policy\nmetadata: {name: strict}\nspec:\n  grants:\n  - {capability: query-objects, kinds: [namespaces]}\n";
    std::fs::write(&policy, strict).unwrap();
    let before = sources(&sim);
    let told = text(
        &online(&sim, &["recover"])
            .arg("--policy")
            .arg(&policy)
            .stdin(Stdio::null())
            .output()
            .unwrap(),
    );
    assert!(told.contains("strict.yaml") && !told.contains("FIXED  "), "{told}");
    assert_eq!(sim.doctor().status.code(), Some(0), "what it suspended is given back all the same");
    let deleted = before.iter().filter(|source| !sources(&sim).contains(source)).count();
    assert_eq!(deleted, 0);
}

#[test]
fn doctor_names_a_lease_that_stayed_behind() {
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
    assert!(created.status.success(), "{}", text(&created));
    let told = ends(&mut sim.salve(&["doctor"]), 5);
    assert!(
        told.contains("LEFT OPEN")
            && told.contains("0badcafe")
            && told.contains("kubectl delete lease salve -n default"),
        "{told}"
    );
}

#[test]
fn doctor_names_the_backups_that_will_bite_before_they_do() {
    let sim = Sim::start("1");
    let told = ends(&mut sim.salve(&["doctor"]), 0);
    assert!(told.contains("NOTHING LEFT") && told.contains("WATCH OUT"), "{told}");
    assert!(
        told.contains("media/bazarr")
            && told.contains("kubectl delete replicationsource bazarr -n media"),
        "{told}"
    );
    let found: Value =
        serde_json::from_str(&ends(&mut sim.salve(&["doctor", "--output", "json"]), 0)).unwrap();
    let orphans: Vec<&Value> = found["orphans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|orphan| &orphan["source"]["object"]["name"])
        .collect();
    assert!(
        orphans.contains(&&Value::from("zigbee2mqtt")),
        "its claim is being deleted: {orphans:?}"
    );
    assert_eq!((found["items"].as_array().map(Vec::len), &found["lease"]), (Some(0), &Value::Null));
}

#[test]
fn a_plan_is_kept_and_run_by_its_id_and_its_next_run_is_another() {
    let sim = Sim::start("60");
    let out = sim.home.path().join("plan.jsonl");
    let mut plan = online(&sim, &["plan", "volsync-unlock", "--output", "json"]);
    plan.arg("--out").arg(&out);
    for key in QUICK {
        plan.args(["--config", key]);
    }
    let plan: Value = serde_json::from_str(&ends(&mut plan, 0)).unwrap();
    let id = plan["run"].as_str().unwrap().to_owned();
    assert_eq!(plan["verdict"], "planned");
    let exact: Vec<_> = plan["effects"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|told| told["certainty"] == "exact")
        .collect();
    assert!(
        exact.len() >= 3 && exact.iter().all(|told| told["about"][0]["why"].is_string()),
        "{exact:?}"
    );
    assert_eq!(
        std::fs::read(&out).unwrap(),
        std::fs::read(file(&sim)).unwrap(),
        "--out is the same file"
    );

    let stranger = ends(online(&sim, &["run"]).arg("--plan").arg(&out), 2);
    assert!(stranger.contains("name its guest"), "{stranger}");
    let other = ends(&mut online(&sim, &["run", "--plan", &id, "--config", "settle=3"]), 3);
    assert!(other.contains("the configuration: settle = 3 in place of 2"), "{other}");
    assert!(sim.doctor().status.success());

    let told = ends(&mut online(&sim, &["run", "--plan", &id, "--output", "json"]), 0);
    let json = &told[told.find("{\n").unwrap()..=told.rfind("\n}").unwrap() + 1];
    let run: Value = serde_json::from_str(json).unwrap();
    assert_eq!(
        (run["verdict"].as_str(), run["plan"].as_str()),
        (Some("fixed"), Some(id.as_str())),
        "{told}"
    );
    let again = ends(&mut online(&sim, &["run", "--plan", &id]), 0);
    assert!(again.contains("NOTHING TO DO"), "what was planned is done: {again}");
}

#[test]
fn a_run_that_is_at_work_is_left_to_its_process() {
    let sim = Sim::start("5");
    let mut run = started(&sim);
    sim.until_suspended(&mut run);
    let id = id(&sim);
    let told = ends(&mut online(&sim, &["recover", &id]), 2);
    assert!(told.contains("a process is at work"), "{told}");
    let told = ends(&mut offline(&sim, &["runs"]), 0);
    assert!(told.contains("at work"), "{told}");
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn what_a_killed_run_holds_is_given_back_without_its_component() {
    let sim = killed();
    std::fs::remove_dir_all(sim.runs().join("components")).unwrap();
    let id = id(&sim);
    let told = ends(&mut online(&sim, &["recover", &id]), 2);
    assert!(told.contains("--release"), "{told}");
    let told = ends(&mut online(&sim, &["recover", &id, "--release"]), 1);
    assert!(told.contains("its process died during") && told.contains("given back"), "{told}");
    assert_eq!(sim.doctor().status.code(), Some(0));
}

#[test]
fn a_damaged_file_is_named_by_its_line_and_left_as_it_is() {
    let sim = killed();
    let path = file(&sim);
    let whole = std::fs::read(&path).unwrap();
    let third = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(2).unwrap().0;
    let mut damaged = whole.clone();
    damaged[third - 10] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    for command in ["recover", "replay", "report", "undo"] {
        let mut command = offline(&sim, &[command, &path.display().to_string()]);
        let told = ends(&mut command, 2);
        assert!(told.contains("line 3"), "{told}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    // What a crash leaves of a line is no damage.
    std::fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    let told = ends(&mut online(&sim, &["recover"]), 0);
    assert!(told.contains("FIXED"), "{told}");
}

#[test]
fn a_strangers_file_is_read_by_a_person_before_anything_is_made_of_it() {
    let sim = killed();
    ends(&mut online(&sim, &["recover"]), 0);
    let elsewhere = sim.home.path().join("mail.jsonl");
    std::fs::copy(file(&sim), &elsewhere).unwrap();
    let elsewhere = elsewhere.display().to_string();
    let told = ends(&mut online(&sim, &["undo", &elsewhere, "--yes"]), 2);
    assert!(told.contains("--policy FILE"), "its documents are its author's word: {told}");
    let policy = sim.home.path().join("policy.yaml");
    std::fs::write(&policy, "apiVersion: salve.dev/v1alpha1\nkind: Policy\nmetadata: {name: ours}\nspec: {grants: []}\n").unwrap();
    let policy = policy.display().to_string();
    let told = ends(&mut online(&sim, &["undo", &elsewhere, "--yes", "--policy", &policy]), 2);
    assert!(told.contains("a person has to read it"), "{told}");
    // In the folder, but writable by others: as strange.
    let inside = sim.runs().join("2026-01-01-x-0badcafe.jsonl");
    std::fs::copy(file(&sim), &inside).unwrap();
    let mut mode = std::fs::metadata(&inside).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o666);
    std::fs::set_permissions(&inside, mode).unwrap();
    let told = ends(&mut online(&sim, &["undo", "0badcafe", "--yes", "--policy", &policy]), 2);
    assert!(told.contains("a person has to read it"), "{told}");
}

#[test]
fn old_runs_go_when_they_are_pruned_and_those_with_no_end_stay() {
    let sim = killed();
    let ended = file(&sim);
    // One more that died: it needs the same component.
    std::fs::copy(&ended, sim.runs().join("2030-01-01-x-0badcafe.jsonl")).unwrap();
    ends(&mut online(&sim, &["recover", &id(&sim)]), 0);
    let all = || salve::runs::all(&sim.runs()).unwrap();
    assert_eq!(all().len(), 2);
    let told = ends(
        &mut offline(&sim, &["runs", "prune", "--older-than", "0", "--keep", "0", "--dry-run"]),
        0,
    );
    assert!(told.contains("would remove 1 run and 0 components") && all().len() == 2, "{told}");
    ends(&mut offline(&sim, &["runs", "prune", "--older-than", "0"]), 0);
    assert_eq!(all().len(), 2, "the newest stay");
    ends(&mut offline(&sim, &["runs", "prune", "--older-than", "0", "--keep", "0"]), 0);
    assert!(all().len() == 1 && !ended.exists());
    assert!(
        std::fs::read_dir(sim.runs().join("components")).unwrap().count() == 1,
        "recovery needs it"
    );
    ends(&mut online(&sim, &["recover", "--release"]), 1);
    ends(&mut offline(&sim, &["runs", "prune", "--older-than", "0", "--keep", "0"]), 0);
    assert!(
        all().is_empty() && std::fs::read_dir(sim.runs().join("components")).unwrap().count() == 0
    );
}
