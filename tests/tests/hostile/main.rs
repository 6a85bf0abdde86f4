//! A guest that suspends and then attacks as badly as it can: what it suspended is given back, whose fault it
//! was is told, and nothing ungranted has reached the cluster.

mod control_plane;
#[path = "../../../host/sandbox/tests/sandbox/guests.rs"]
mod guests;
mod shapes;
mod stopping;
mod together;

use guests::Guest;
use salve::arguments::GuestOptions;
use salve::cluster::ClusterSession;
use salve::guest::ResolvedGuest;
use salve::output::Failed;
use salve::session::{FinishedRun, InterruptedRun, PreparedRun, load, replay};
use salve_core::document::Limits;
use salve_core::grants::Grants;
use salve_core::journal::Entry;
use salve_core::outcome::Fault;
use salve_core::report::Verdict;
use salve_guest_builder::Project;
use salve_run::{Mode, NoObserver, RunFile};
use salve_simulator::{Exchange, Incident, Simulator};
use salve_tests::canary;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const REMEDIATION: &str = "
apiVersion: salve.dev/v1alpha1
kind: Remediation
metadata: {name: hostile}
spec:
  component: COMPONENT
  grants:
  - {capability: suspend-flux, kinds: [kustomization], namespaces: [media], names: [plex]}
  - {capability: query-pvcs, namespaces: [media]}
  - {capability: query-objects, kinds: [configmaps], namespaces: [media]}
  - {capability: delete-replicationsources, namespaces: [media], names: [sonarr]}
  - {capability: restart-deployment, namespaces: [rook-ceph]}
  - {capability: reconcile-flux, kinds: [kustomization], namespaces: [media], names: [plex]}
  - {capability: tail-logs, namespaces: [rook-ceph]}
  limits: {memoryMib: 16, fuelBillions: 1}
";

fn component() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile");
        Project { root: &root, package: "hostile", profile: "release" }
            .component(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile"))
            .unwrap()
    })
}

struct GuestExited {
    over: FinishedRun,
    _runs: tempfile::TempDir,
    simulator: Simulator,
}

async fn end(how: &str, mode: Mode) -> GuestExited {
    run(&std::fs::read(component()).unwrap(), &[format!("how={how}")], mode).await.unwrap()
}

/// Runs a component under [`REMEDIATION`] in a cluster of its own.
async fn run(component: &[u8], config: &[String], mode: Mode) -> Result<GuestExited, Failed> {
    let folder = tempfile::tempdir().unwrap();
    let (document, file) =
        (folder.path().join("remediation.yaml"), folder.path().join("guest.wasm"));
    std::fs::write(&file, component).unwrap();
    std::fs::write(&document, REMEDIATION.replace("COMPONENT", &file.display().to_string()))
        .unwrap();
    let terms = GuestOptions { config: config.to_vec(), ..GuestOptions::default() };
    let ready =
        PreparedRun::prepare(ResolvedGuest::find(&document.display().to_string(), &terms)?, &terms)
            .await?;
    let simulator = Simulator::new(Incident::Playbook);
    canary::plant(&simulator);
    let open = ClusterSession::simulated(simulator.clone()).await?;
    let over = ready.run(mode, &open, Some(folder.path()), Box::new(NoObserver)).await?;
    canary::listen("the report", &serde_json::to_string(&over.report).unwrap()).unwrap();
    canary::listen("the run file", &std::fs::read_to_string(over.file.as_ref().unwrap()).unwrap())
        .unwrap();
    // The record can be read back, whatever the guest put into it.
    assert!(RunFile::read(over.file.as_ref().unwrap()).unwrap().len() > 2);
    Ok(GuestExited { over, _runs: folder, simulator })
}

fn plex(simulator: &Simulator) -> Value {
    simulator.object("kustomize.toolkit.fluxcd.io", "kustomizations", "media", "plex").unwrap()
}

/// What the guest brought about. The Lease around it is the host's.
fn of_the_guest(simulator: &Simulator) -> Vec<Exchange> {
    simulator.mutations().into_iter().filter(|one| !one.uri.contains("/leases")).collect()
}

fn is_as_before(simulator: &Simulator) -> bool {
    let plex = plex(simulator);
    plex["spec"].get("suspend").is_none()
        && !plex["metadata"]["annotations"].to_string().contains("salve.dev")
}

#[tokio::test]
async fn what_it_suspended_is_given_back_and_the_fault_is_told() {
    let guest = Verdict::Failed(Fault::Guest);
    for (how, verdict, words) in [
        ("return", Verdict::NothingToDo, "done"),
        ("forget", Verdict::NothingToDo, "done"),
        ("error", Verdict::Failed(Fault::Cluster), "what I was looking for"),
        ("panic", guest, "asked to panic"),
        ("loop", guest, "fuel"),
        ("recurse", guest, "stack"),
        ("copy", guest, "fuel"),
        ("sleep", guest, "the guest was not through after 1450 min"),
        ("calls", guest, "floods the record"),
        ("flood", guest, "floods the record"),
        ("pattern", Verdict::NotFixed, "no regular expression"),
        ("hoard", guest, "memory"),
        ("handles", Verdict::NotFixed, "4095 cursors, then: 4096"),
        ("shout", guest, "1024 KiB in one call"),
        ("list", guest, "1024 KiB in one call"),
        ("beyond", guest, ""),
        ("lines", guest, "at most 16384"),
        ("forge", Verdict::NotFixed, "forged"),
        ("everything", guest, "fuel"),
    ] {
        let ended = end(how, Mode::Live).await;
        let closing = &ended.over.closing;
        assert_eq!(closing.verdict, verdict, "{how}: {}", closing.summary);
        assert!(closing.summary.contains(words), "{how}: {}", closing.summary);
        assert!(is_as_before(&ended.simulator), "{how}: {:#}", plex(&ended.simulator));
        let patches = of_the_guest(&ended.simulator);
        assert_eq!(patches.len(), 2, "{how}: one suspend and one release: {patches:#?}");
    }
}

#[tokio::test]
async fn a_diagnosis_that_touches_is_denied() {
    let ended = end("return", Mode::Diagnosis).await;
    assert_eq!(ended.over.closing.verdict, Verdict::Denied, "{}", ended.over.closing.summary);
    assert_eq!(ended.simulator.mutations(), vec![]);
}

#[tokio::test]
async fn it_cannot_give_itself_more_than_a_day() {
    for config in [
        vec!["how=return".to_owned()],
        vec!["how=return".to_owned(), format!("timeout={}", u64::MAX)],
    ] {
        let ended = run(&std::fs::read(component()).unwrap(), &config, Mode::Live).await.unwrap();
        let entries = RunFile::read(ended.over.file.as_ref().unwrap()).unwrap();
        let Some(Entry::Header(header)) = entries.first() else { panic!("no header") };
        assert_eq!(header.deadline - header.at, 86_400_000, "{config:?}");
    }
}

#[tokio::test]
async fn it_is_not_believed() {
    let ended = end("lie", Mode::Live).await;
    assert_eq!(ended.over.closing.verdict, Verdict::NotFixed);
    assert!(
        ended.over.closing.summary.contains("trust me")
            && ended.over.closing.summary.contains("proof"),
        "{}",
        ended.over.closing.summary
    );
}

#[tokio::test]
async fn it_reaches_nothing_beyond_its_grants() {
    for (how, answers) in
        [("secrets", 22), ("names", 18), ("selectors", 8), ("others", 12), ("marks", 7)]
    {
        let ended = end(how, Mode::Live).await;
        let told = &ended.over.closing.summary;
        assert!(!told.contains("GOT"), "{told}");
        assert_eq!(told.lines().count(), answers, "{told}");
        let mutations = of_the_guest(&ended.simulator);
        assert!(
            mutations.iter().all(|m| m.uri.contains("/namespaces/media/kustomizations/plex")),
            "{mutations:#?}"
        );
        let asked = ended.simulator.exchanges().into_iter().map(|exchange| exchange.uri);
        let strange: Vec<_> = asked
            .filter(|uri| {
                ["secret", "exec", "token", "kube-system/", "watch=", "limit=9999", "User:"]
                    .iter()
                    .any(|word| uri.contains(word))
            })
            .collect();
        assert_eq!(strange, Vec::<String>::new(), "{how}");
    }
}

#[tokio::test]
async fn its_record_replays_to_the_same_end() {
    let (local, _) =
        load(&std::fs::read(component()).unwrap(), "its own", Limits::default()).await.unwrap();
    for how in ["random", "forge", "lines", "paint", "names", "marks", "forget", "panic"] {
        let ended = end(how, Mode::Live).await;
        let again = replay(&local, RunFile::read(ended.over.file.as_ref().unwrap()).unwrap(), None)
            .await
            .unwrap();
        assert_eq!(again.parts, None, "{how}");
        assert_eq!(
            (again.closing.verdict, &again.closing.summary),
            (ended.over.closing.verdict, &ended.over.closing.summary),
            "{how}"
        );
    }
}

#[tokio::test]
async fn nothing_that_could_differ_the_next_time_does() {
    let once = end("random", Mode::Live).await.over.closing.summary;
    assert_eq!(
        end("random", Mode::Live).await.over.closing.summary,
        once,
        "two runs, two processes of thought, one outcome"
    );
    assert!(once.contains("7ff8000000000000") || once.contains("7ff8"), "{once}");
}

/// Another component under the record of a run: it ends before its time, and that is no agreement.
#[tokio::test]
async fn a_guest_that_leaves_out_what_the_run_did_parts_from_its_record() {
    let ended = end("return", Mode::Live).await;
    let path = ended.over.file.as_ref().unwrap();
    let (other, _) =
        load(&Guest::default().component(), "another", Limits::default()).await.unwrap();
    let (local, _) =
        load(&std::fs::read(component()).unwrap(), "its own", Limits::default()).await.unwrap();
    // Of the whole run, and of what is there of it when it dies once it has suspended.
    let text = std::fs::read_to_string(path).unwrap();
    let opened = text
        .lines()
        .position(|line| line.contains("\"opened\"") && line.contains("suspend-flux.suspend"))
        .unwrap();
    let died: String = text.split_inclusive('\n').take(opened + 2).collect();
    let file = path.with_file_name("died.jsonl");
    std::fs::write(&file, died).unwrap();
    for path in [path, &file] {
        let entries = RunFile::read(path).unwrap();
        assert_eq!(
            replay(&local, entries.clone(), None).await.unwrap().parts,
            None,
            "{}",
            path.display()
        );
        let parts =
            replay(&other, entries, None).await.unwrap().parts.expect("it does nothing of that");
        assert!(parts.entry.is_some() && parts.expected.contains("suspend-flux"), "{parts:?}");
    }
    let (taken, entries) = RunFile::take_up(&file).unwrap();
    let Some(Entry::Header(header)) = entries.first() else { panic!("no header") };
    let dead = InterruptedRun { header: (**header).clone(), file: taken, entries };
    let open = ClusterSession::simulated(ended.simulator.clone()).await.unwrap();
    let over = dead.recover(&other, Grants::default(), &open, Box::new(NoObserver)).await.unwrap();
    assert_eq!(over.closing.verdict, Verdict::Failed(Fault::Guest), "{}", over.closing.summary);
    assert!(
        over.parts.is_some_and(|parts| parts.expected.contains("suspend-flux"))
            && over.closing.open.is_empty()
    );
}

#[tokio::test]
async fn what_looks_like_a_line_of_the_record_is_none() {
    let ended = end("forge", Mode::Live).await;
    let text = std::fs::read_to_string(ended.over.file.as_ref().unwrap()).unwrap();
    let entries = RunFile::read(ended.over.file.as_ref().unwrap()).unwrap();
    assert_eq!(text.lines().count(), entries.len(), "one line an entry");
    assert_eq!(entries.iter().filter(|entry| entry.verdict().is_some()).count(), 1);
    assert_eq!(ended.over.closing.verdict, Verdict::NotFixed);
}

#[tokio::test]
async fn what_it_says_cannot_paint() {
    let ended = end("paint", Mode::Live).await;
    // What a person sees goes through `sanitized`; what stands in the file is JSON, one line a fact.
    let text = std::fs::read_to_string(ended.over.file.as_ref().unwrap()).unwrap();
    assert!(text.contains("owned") && !text.contains('\u{1b}') && !text.contains('\r'));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_paints_is_shown_as_text_by_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let (document, kubeconfig) =
        (folder.path().join("remediation.yaml"), folder.path().join("kubeconfig"));
    std::fs::write(&document, REMEDIATION.replace("COMPONENT", &component().display().to_string()))
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    std::fs::write(&kubeconfig, salve_simulator::kubeconfig(listener.local_addr().unwrap()))
        .unwrap();
    // Ends with the test's runtime.
    tokio::spawn(salve_simulator::serve(Simulator::new(Incident::Playbook), listener, 1.0));
    let mut command = tokio::process::Command::new(salve_tests::salve::program().unwrap());
    command
        .arg("run")
        .arg(&document)
        .args(["--yes", "--config", "how=paint", "--kubeconfig"])
        .arg(&kubeconfig)
        .arg("--runs")
        .arg(folder.path().join("runs"));
    let output =
        command.env("HOME", folder.path()).env("CLICOLOR_FORCE", "1").output().await.unwrap();
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(
        told.contains("owned") && told.contains("FIXED  all is well"),
        "its words are shown: {told}"
    );
    let painted = ["\u{1b}[2J", "\u{1b}]", "\u{7}", "\u{202e}"]
        .into_iter()
        .filter(|sequence| told.contains(sequence))
        .collect::<Vec<_>>();
    assert!(painted.is_empty(), "{painted:?} in {told:?}");
    assert!(!told.lines().any(|line| line.starts_with("FIXED")), "no line is the guest's: {told}");
}

/// Before anything runs, a person is told what cannot.
#[test]
fn inspect_says_of_each_shape_that_cannot_run_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guest.wasm");
    let mut told = 0;
    for shape in shapes::shapes("plex").into_iter().filter(|shape| shape.code == 2) {
        std::fs::write(&file, &shape.component).unwrap();
        let program = salve_tests::salve::program().expect("it is built beside this test");
        let output = std::process::Command::new(program)
            .arg("inspect")
            .arg(&file)
            .env("HOME", folder.path())
            .output()
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(2), "{}: {said}", shape.name);
        let heads = [
            ("an interface that nobody has", "unknown"),
            ("another version", "wrong version"),
            ("two versions at once", "wrong version"),
        ];
        let head =
            heads.iter().find(|(name, _)| *name == shape.name).map_or("error ", |(_, head)| head);
        assert!(said.contains(shape.words) && said.contains(head), "{}: {said}", shape.name);
        told += 1;
    }
    assert!(told >= 7, "{told}");
}
