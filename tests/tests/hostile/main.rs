//! Guests that suspend an object and then attack the host: the suspension is released, the fault is
//! attributed, and no request without a grant reaches the cluster.

mod concurrent;
mod control_plane;
#[path = "../../../host/sandbox/tests/sandbox/guests.rs"]
mod guests;
mod interrupt;
mod malformed;

use guests::Guest;
use salve::arguments::GuestOptions;
use salve::cluster::ClusterSession;
use salve::guest::ResolvedGuest;
use salve::output::CommandError;
use salve::session::{FinishedRun, Frontend, InterruptedRun, PreparedRun, load, replay};
use salve_core::document::{Limits, Remediation};
use salve_core::grants::Grants;
use salve_core::journal::Entry;
use salve_core::outcome::Fault;
use salve_core::report::Verdict;
use salve_guest_builder::Project;
use salve_run::{Mode, RunFile};
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
  guest: {path: COMPONENT}
  grants:
  - {capability: suspend-flux, kinds: [kustomizations.kustomize.toolkit.fluxcd.io], namespaces: [media], names: [plex]}
  - {capability: query-pvcs, namespaces: [media, ai]}
  - {capability: query-objects, kinds: [configmaps], namespaces: [media]}
  - {capability: delete-replicationsources, namespaces: [media], names: [sonarr]}
  - {capability: restart-deployment, namespaces: [rook-ceph]}
  - {capability: reconcile-flux, kinds: [kustomizations.kustomize.toolkit.fluxcd.io], namespaces: [media], names: [plex]}
  - {capability: tail-logs, namespaces: [rook-ceph]}
  problems:
  - name: locks
    read: {capability: tail-logs, namespaces: [rook-ceph], names: ['*-provisioner'], containers: [csi-rbdplugin]}
    pattern: already exists
    window: 2m
  - name: locked-pvcs
    read: {capability: query-pvcs, namespaces: [media, ai]}
    states: [csi-locked, csi-slow]
    window: 2m
  limits: {memoryMib: 16, fuelBillions: 1, deadlineSeconds: 86400}
";

fn component() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile");
        Project { root: &root, package: "hostile", profile: "release" }
            .component(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests"))
            .unwrap()
    })
}

struct CompletedRun {
    finished: FinishedRun,
    simulator: Simulator,
    _runs: tempfile::TempDir,
}

/// Runs the hostile guest with this attack.
async fn attack(how: &str, mode: Mode) -> CompletedRun {
    run(&std::fs::read(component()).unwrap(), &[format!("how={how}")], mode).await.unwrap()
}

/// Runs a component with [`REMEDIATION`] on a new simulated cluster.
async fn run(
    component: &[u8],
    config: &[String],
    mode: Mode,
) -> Result<CompletedRun, CommandError> {
    let folder = tempfile::tempdir().unwrap();
    let (document, file) =
        (folder.path().join("remediation.yaml"), folder.path().join("guest.wasm"));
    std::fs::write(&file, component).unwrap();
    std::fs::write(&document, REMEDIATION.replace("COMPONENT", &file.display().to_string()))
        .unwrap();
    let options = GuestOptions { config: config.to_vec(), ..GuestOptions::default() };
    let prepared = PreparedRun::prepare(
        ResolvedGuest::resolve(&document.display().to_string(), &options)?,
        &options,
    )
    .await?;
    let simulator = Simulator::new(Incident::Playbook);
    canary::plant(&simulator);
    let session = ClusterSession::simulated(simulator.clone()).await?;
    let finished = prepared.run(mode, &session, Some(folder.path()), Frontend::none()).await?;
    canary::ensure_none_in("the report", &serde_json::to_string(&finished.report).unwrap())
        .unwrap();
    canary::ensure_none_in(
        "the run file",
        &std::fs::read_to_string(finished.file.as_ref().unwrap()).unwrap(),
    )
    .unwrap();
    // The run file is readable, whatever the guest wrote to it.
    assert!(RunFile::read(finished.file.as_ref().unwrap()).unwrap().len() > 2);
    Ok(CompletedRun { finished, simulator, _runs: folder })
}

fn plex(simulator: &Simulator) -> Value {
    simulator.object("kustomize.toolkit.fluxcd.io", "kustomizations", "media", "plex").unwrap()
}

/// Returns the writes of the guest, without those of the host to its Lease.
fn guest_writes(simulator: &Simulator) -> Vec<Exchange> {
    simulator.mutations().into_iter().filter(|exchange| !exchange.uri.contains("/leases")).collect()
}

fn is_restored(simulator: &Simulator) -> bool {
    let plex = plex(simulator);
    plex["spec"].get("suspend").is_none()
        && !plex["metadata"]["annotations"].to_string().contains("salve.dev")
}

#[tokio::test]
async fn every_attack_is_attributed_and_its_suspension_is_released() {
    let guest = Verdict::Failed(Fault::Guest);
    for (how, verdict, expected) in [
        ("return", Verdict::NothingToDo, "done"),
        ("forget", Verdict::NothingToDo, "done"),
        ("error", Verdict::Failed(Fault::Cluster), "what I was looking for"),
        ("panic", guest, "asked to panic"),
        // A trap shows the guest's stack; the sandbox's tests have a guest without an SDK.
        ("loop", guest, "spec.limits.fuelBillions; stack: hostile::cpu::spin <- "),
        ("recurse", guest, "recursing without end; stack: hostile::cpu::deep (64 times)"),
        ("copy", guest, "fuel"),
        ("sleep", guest, "the guest was not finished after 1450 min"),
        ("calls", guest, "made more calls than one run may record"),
        ("flood", guest, "made more calls than one run may record"),
        ("pattern", Verdict::NotFixed, "not a valid regular expression"),
        ("hoard", guest, " <- hostile::memory::hoard <- "),
        ("handles", Verdict::NotFixed, "4095 cursors, then: at most 4096"),
        ("shout", guest, "1024 KiB in one call"),
        ("list", guest, "1024 KiB in one call"),
        ("beyond", guest, ""),
        ("lines", guest, "the maximum is 16384"),
        ("forge", Verdict::NotFixed, "forged"),
        ("everything", guest, "fuel"),
    ] {
        let completed = attack(how, Mode::Live).await;
        let result = &completed.finished.result;
        assert_eq!(result.verdict, verdict, "{how}: {}", result.summary);
        assert!(result.summary.contains(expected), "{how}: {}", result.summary);
        assert!(is_restored(&completed.simulator), "{how}: {:#}", plex(&completed.simulator));
        let patches = guest_writes(&completed.simulator);
        assert_eq!(patches.len(), 2, "{how}: one suspend and one release: {patches:#?}");
    }
}

#[tokio::test]
async fn a_write_during_a_diagnosis_is_denied() {
    let completed = attack("return", Mode::Diagnosis).await;
    assert_eq!(
        completed.finished.result.verdict,
        Verdict::Denied,
        "{}",
        completed.finished.result.summary
    );
    assert_eq!(completed.simulator.mutations(), vec![]);
}

#[tokio::test]
async fn a_guest_cannot_run_longer_than_24_hours() {
    let completed = attack("return", Mode::Live).await;
    let entries = RunFile::read(completed.finished.file.as_ref().unwrap()).unwrap();
    let Some(Entry::Header(header)) = entries.first() else { panic!("no header") };
    assert_eq!(header.deadline - header.at, 86_400_000);

    let longer = REMEDIATION.replace("deadlineSeconds: 86400", "deadlineSeconds: 86401");
    assert!(Remediation::read(REMEDIATION, "remediation.yaml").is_ok());
    assert!(Remediation::read(&longer, "remediation.yaml").is_err());
}

#[tokio::test]
async fn a_guest_that_claims_success_without_proof_is_not_believed() {
    for (how, verdict, expected) in [
        ("lie", Verdict::Unverified, "the guest observed no declared problem"),
        ("claims-success-by-blank-pattern", Verdict::Unverified, "does not show it"),
        ("claims-success-by-another-line", Verdict::Unverified, "is not the last page"),
        ("claims-success-by-the-end-of-the-log", Verdict::Unverified, "only the end of the log"),
        ("claims-success-by-another-container", Verdict::Unverified, "container csi-provisioner"),
        ("claims-success-by-one-namespace", Verdict::Unverified, "leaves out namespaces"),
        ("claims-success-by-another-entry", Verdict::Unverified, "entry 1 is not a read"),
        ("claims-success-by-another-problem", Verdict::Unverified, "is declared"),
        ("claims-success-without-fixing", Verdict::NotFixed, "csi-rbdplugin-provisioner logged"),
    ] {
        let completed = attack(how, Mode::Live).await;
        let result = &completed.finished.result;
        assert_eq!(result.verdict, verdict, "{how}: {}", result.summary);
        let summary = &result.summary;
        assert!(summary.contains("trust me") && summary.contains(expected), "{how}: {summary}");
        assert!(is_restored(&completed.simulator), "{how}");
    }
}

#[tokio::test]
async fn a_guest_cannot_exceed_its_grants() {
    for (how, answers) in
        [("secrets", 22), ("names", 18), ("selectors", 8), ("others", 12), ("marks", 7)]
    {
        let completed = attack(how, Mode::Live).await;
        let summary = &completed.finished.result.summary;
        assert!(!summary.contains("GOT"), "{summary}");
        assert_eq!(summary.lines().count(), answers, "{summary}");
        let mutations = guest_writes(&completed.simulator);
        assert!(
            mutations.iter().all(|m| m.uri.contains("/namespaces/media/kustomizations/plex")),
            "{mutations:#?}"
        );
        let uris = completed.simulator.exchanges().into_iter().map(|exchange| exchange.uri);
        let forbidden: Vec<_> = uris
            .filter(|uri| {
                ["secret", "exec", "token", "kube-system/", "watch=", "limit=9999", "User:"]
                    .iter()
                    .any(|part| uri.contains(part))
            })
            .collect();
        assert_eq!(forbidden, Vec::<String>::new(), "{how}");
    }
}

#[tokio::test]
async fn the_run_file_of_an_attack_replays_to_the_same_result() {
    let (same, _) =
        load(&std::fs::read(component()).unwrap(), "the guest of the run", Limits::default())
            .await
            .unwrap();
    for how in [
        "random",
        "forge",
        "lines",
        "paint",
        "names",
        "marks",
        "forget",
        "panic",
        "claims-success-without-fixing",
    ] {
        let completed = attack(how, Mode::Live).await;
        let replayed =
            replay(&same, RunFile::read(completed.finished.file.as_ref().unwrap()).unwrap(), None)
                .await
                .unwrap();
        assert_eq!(replayed.divergence, None, "{how}");
        assert_eq!(
            (replayed.result.verdict, &replayed.result.summary),
            (completed.finished.result.verdict, &completed.finished.result.summary),
            "{how}"
        );
    }
}

#[tokio::test]
async fn a_guest_has_no_source_of_nondeterminism() {
    let once = attack("random", Mode::Live).await.finished.result.summary;
    assert_eq!(
        attack("random", Mode::Live).await.finished.result.summary,
        once,
        "two runs have different results"
    );
    assert!(once.contains("7ff8000000000000") || once.contains("7ff8"), "{once}");
}

/// Another component that returns before it has made all recorded calls does not agree with the run
/// file.
#[tokio::test]
async fn a_guest_that_omits_recorded_calls_diverges_from_the_run_file() {
    let completed = attack("return", Mode::Live).await;
    let path = completed.finished.file.as_ref().unwrap();
    let (other, _) =
        load(&Guest::default().component(), "another guest", Limits::default()).await.unwrap();
    let (same, _) =
        load(&std::fs::read(component()).unwrap(), "the guest of the run", Limits::default())
            .await
            .unwrap();
    // Both for the complete run and for one that crashed after the suspend.
    let text = std::fs::read_to_string(path).unwrap();
    let opened = text
        .lines()
        .position(|line| line.contains("\"opened\"") && line.contains("suspend-flux.suspend"))
        .unwrap();
    let crashed: String = text.split_inclusive('\n').take(opened + 2).collect();
    let file = path.with_file_name("crashed.jsonl");
    std::fs::write(&file, crashed).unwrap();
    for path in [path, &file] {
        let entries = RunFile::read(path).unwrap();
        assert_eq!(
            replay(&same, entries.clone(), None).await.unwrap().divergence,
            None,
            "{}",
            path.display()
        );
        let divergence = replay(&other, entries, None)
            .await
            .unwrap()
            .divergence
            .expect("it makes none of the recorded calls");
        assert!(
            divergence.entry.is_some() && divergence.expected.contains("suspend-flux"),
            "{divergence:?}"
        );
    }
    let (run_file, entries) = RunFile::resume(&file).unwrap();
    let Some(Entry::Header(header)) = entries.first() else { panic!("no header") };
    let interrupted = InterruptedRun { header: (**header).clone(), file: run_file, entries };
    let session = ClusterSession::simulated(completed.simulator.clone()).await.unwrap();
    let finished =
        interrupted.recover(&other, Grants::default(), &session, Frontend::none()).await.unwrap();
    assert_eq!(
        finished.result.verdict,
        Verdict::Failed(Fault::Guest),
        "{}",
        finished.result.summary
    );
    assert!(
        finished.divergence.is_some_and(|divergence| divergence.expected.contains("suspend-flux"))
            && finished.result.open.is_empty()
    );
}

#[tokio::test]
async fn a_guest_cannot_forge_entries_of_the_run_file() {
    let completed = attack("forge", Mode::Live).await;
    let text = std::fs::read_to_string(completed.finished.file.as_ref().unwrap()).unwrap();
    let entries = RunFile::read(completed.finished.file.as_ref().unwrap()).unwrap();
    assert_eq!(text.lines().count(), entries.len(), "one line per entry");
    assert_eq!(entries.iter().filter(|entry| entry.verdict().is_some()).count(), 1);
    assert_eq!(completed.finished.result.verdict, Verdict::NotFixed);
}

#[tokio::test]
async fn control_sequences_of_a_guest_are_escaped_in_the_run_file() {
    let completed = attack("paint", Mode::Live).await;
    // Output goes through `sanitized`; the run file is JSON, which escapes control characters.
    let text = std::fs::read_to_string(completed.finished.file.as_ref().unwrap()).unwrap();
    assert!(text.contains("owned") && !text.contains('\u{1b}') && !text.contains('\r'));
}

#[tokio::test(flavor = "multi_thread")]
async fn control_sequences_of_a_guest_are_printed_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let (document, kubeconfig) =
        (folder.path().join("remediation.yaml"), folder.path().join("kubeconfig"));
    std::fs::write(&document, REMEDIATION.replace("COMPONENT", &component().display().to_string()))
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    std::fs::write(&kubeconfig, salve_simulator::kubeconfig(listener.local_addr().unwrap()))
        .unwrap();
    // Stops with the runtime of the test.
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
    let output = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(
        output.contains("owned") && output.contains("FIXED  all is well"),
        "its text is printed: {output}"
    );
    let unescaped = ["\u{1b}[2J", "\u{1b}]", "\u{7}", "\u{202e}"]
        .into_iter()
        .filter(|sequence| output.contains(sequence))
        .collect::<Vec<_>>();
    assert!(unescaped.is_empty(), "{unescaped:?} in {output:?}");
    assert!(
        !output.lines().any(|line| line.starts_with("FIXED")),
        "the guest controls no line: {output}"
    );
}

#[test]
fn inspect_explains_why_a_malformed_guest_cannot_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guest.wasm");
    let mut count = 0;
    for guest in malformed::guests("plex").into_iter().filter(|guest| guest.code == 2) {
        std::fs::write(&file, &guest.component).unwrap();
        let program = salve_tests::salve::program().expect("salve was built with this test");
        let output = std::process::Command::new(program)
            .arg("inspect")
            .arg(&file)
            .env("HOME", folder.path())
            .output()
            .unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(2), "{}: {text}", guest.name);
        let statuses = [
            ("unknown interface", "unknown"),
            ("another version", "wrong version"),
            ("two versions", "wrong version"),
        ];
        let status = statuses.iter().find(|(name, _)| *name == guest.name);
        let status = status.map_or("error ", |(_, status)| status);
        assert!(text.contains(guest.expected) && text.contains(status), "{}: {text}", guest.name);
        count += 1;
    }
    assert!(count >= 7, "{count}");
}
