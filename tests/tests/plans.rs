//! An approved plan binds the run: the run applies the plan without waiting for evidence again, and
//! stops before it writes to anything that changed.

use salve::arguments::GuestOptions;
use salve::cluster::ClusterSession;
use salve::guest::ResolvedGuest;
use salve::plans::Plan;
use salve::session::{FinishedRun, Frontend, PreparedRun};
use salve_core::capability::{Effect, Function, ObjectDetails};
use salve_core::journal::{Entry, Recorded};
use salve_core::report::{Certainty, ReportBuilder, Verdict};
use salve_run::{Mode, Observer, RunFile};
use salve_simulator::{Fault, Incident, Simulator};
use salve_tests::canary;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

const VOLSYNC: &str = "volsync.backube";
const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";

/// A cluster and its plan.
struct Planned {
    simulator: Simulator,
    runs: tempfile::TempDir,
    options: GuestOptions,
    file: PathBuf,
    id: String,
}

impl Planned {
    async fn new() -> Self {
        let options = GuestOptions {
            config: vec!["stabilizationWindowSeconds=10".into(), "restoreTimeoutSeconds=10".into()],
            ..GuestOptions::default()
        };
        let (simulator, runs) = (Simulator::new(Incident::Playbook), tempfile::tempdir().unwrap());
        canary::plant(&simulator);
        let prepared = PreparedRun::prepare(
            ResolvedGuest::resolve("volsync-unlock", &options).unwrap(),
            &options,
        )
        .await
        .unwrap();
        let session = ClusterSession::simulated(simulator.clone()).await.unwrap();
        let plan =
            prepared.run(Mode::Plan, &session, Some(runs.path()), Frontend::none()).await.unwrap();
        assert_eq!(plan.result.verdict, Verdict::Planned, "{}", report_json(&plan));
        canary::ensure_none_in("the plan", &report_json(&plan)).unwrap();
        canary::ensure_none_in_dir(runs.path()).unwrap();
        assert_eq!(simulator.mutations(), vec![], "a plan sends no writes");
        Self { simulator, runs, options, file: plan.file.unwrap(), id: plan.report.run }
    }

    fn plan(&self) -> Plan {
        Plan::open(self.runs.path(), &self.id).unwrap()
    }

    /// Runs the plan on a copy of the cluster that `meanwhile` changed.
    async fn run(&self, meanwhile: impl FnOnce(&Simulator)) -> (FinishedRun, Simulator) {
        self.run_with(|simulator| {
            meanwhile(simulator);
            Frontend::none()
        })
        .await
    }

    /// Runs the plan on a copy of the cluster with a front end.
    async fn run_with(
        &self,
        frontend: impl FnOnce(&Simulator) -> Frontend,
    ) -> (FinishedRun, Simulator) {
        let simulator = self.simulator.fork();
        let frontend = frontend(&simulator);
        let plan = self.plan();
        let prepared = PreparedRun::prepare(plan.resolve_guest().unwrap(), &self.options)
            .await
            .unwrap()
            .bound_to(plan)
            .unwrap();
        let session = ClusterSession::simulated(simulator.clone()).await.unwrap();
        let finished = prepared.run(Mode::Live, &session, Some(self.runs.path()), frontend).await;
        (finished.unwrap(), simulator)
    }
}

fn report_json(finished: &FinishedRun) -> String {
    serde_json::to_string_pretty(&finished.report).unwrap()
}

fn entries(finished: &FinishedRun) -> Vec<Entry> {
    RunFile::read(finished.file.as_ref().unwrap()).unwrap()
}

/// Returns how many answers that depend on time the run collected itself before its first write.
fn answers_collected_again(finished: &FinishedRun) -> usize {
    let entries = entries(finished);
    let before = entries.iter().take_while(|entry| !matches!(entry, Entry::Opened(_)));
    let is_collected = |entry: &&Entry| match entry {
        Entry::Done(done) => done.effect.observes_time() && done.from_plan.is_none(),
        _ => false,
    };
    before.filter(is_collected).count()
}

fn answers_from_plan(finished: &FinishedRun) -> usize {
    entries(finished)
        .iter()
        .filter(|entry| matches!(entry, Entry::Done(done) if done.from_plan.is_some()))
        .count()
}

#[tokio::test]
async fn a_plan_is_rejected_if_the_cluster_cannot_be_identified() {
    let planned = Planned::new().await;
    let header = planned.plan().header().clone();
    assert!(
        ClusterSession::simulated(planned.simulator.clone())
            .await
            .unwrap()
            .check_same_cluster(&header)
            .is_ok()
    );
    planned.simulator.fault(Fault::status(403).on("get").at("/namespaces/kube-system"));
    let rejected = ClusterSession::simulated(planned.simulator.clone())
        .await
        .unwrap()
        .check_same_cluster(&header);
    assert!(rejected.is_err_and(|failed| failed.to_string().contains("kube-system")));
}

#[tokio::test]
async fn an_unchanged_plan_is_applied_and_its_evidence_is_reused() {
    let planned = Planned::new().await;
    let (finished, _) = planned.run(|_| {}).await;
    assert_eq!(finished.result.verdict, Verdict::Fixed, "{}", report_json(&finished));
    assert_eq!(finished.report.plan.as_deref(), Some(planned.id.as_str()));
    assert!(answers_from_plan(&finished) > 0);
    // The plan watched the logs; the run starts with its evidence.
    assert_eq!(answers_collected_again(&finished), 0, "{}", report_json(&finished));
}

#[tokio::test]
async fn the_evidence_of_an_old_plan_is_collected_again() {
    let planned = Planned::new().await;
    let (finished, _) =
        planned.run(|simulator| simulator.clock().advance(Duration::from_secs(16 * 60))).await;
    assert_eq!(answers_from_plan(&finished), 0, "{}", report_json(&finished));
    assert!(answers_collected_again(&finished) > 0);
    assert!(
        planned
            .plan()
            .reusable_entries(planned.plan().header().at + 16 * 60 * 1000)
            .unwrap_err()
            .contains("16 min old")
    );
    assert!(
        planned
            .plan()
            .reusable_entries(planned.plan().header().at - 1)
            .unwrap_err()
            .contains("future")
    );
}

/// Inserts a source without a PVC, which a new plan would delete.
fn insert_orphan(s: &Simulator) {
    let mut orphan = s.object(VOLSYNC, "replicationsources", "media", "sonarr").unwrap();
    let original = &orphan["metadata"];
    orphan["metadata"] = json!({
        "namespace": "media",
        "name": "younger",
        "creationTimestamp": original["creationTimestamp"],
        "labels": original["labels"],
    });
    assert!(s.insert(orphan).unwrap());
}

/// What `salve run` displays and asks to confirm is what it runs, whatever changes meanwhile.
#[tokio::test]
async fn a_confirmed_run_is_bound_to_the_plan_that_it_displayed() {
    let planned = Planned::new().await;
    let run = async |meanwhile: fn(&Simulator)| {
        let simulator = planned.simulator.fork();
        let guest = ResolvedGuest::resolve("volsync-unlock", &planned.options).unwrap();
        let prepared = PreparedRun::prepare(guest, &planned.options).await.unwrap();
        let session = ClusterSession::simulated(simulator.clone()).await.unwrap();
        let mut displayed = String::new();
        let confirm = async |plan: &FinishedRun| {
            assert_eq!(simulator.mutations(), vec![]);
            displayed = plan.report.run.clone();
            meanwhile(&simulator);
            Ok(())
        };
        let confirmed = prepared.confirmed(&session, Frontend::none(), confirm).await.unwrap();
        let Ok(bound) = confirmed else { panic!("there is nothing to confirm") };
        let finished =
            bound.run(Mode::Live, &session, Some(planned.runs.path()), Frontend::none()).await;
        let finished = finished.unwrap();
        assert_eq!(finished.report.plan.as_ref(), Some(&displayed));
        let deleted: Vec<_> = simulator
            .mutations()
            .into_iter()
            .filter(|request| request.uri.contains("/replicationsources/"))
            .collect();
        (finished, deleted, simulator)
    };
    let (finished, deleted, _) = run(|_| {}).await;
    assert_eq!(finished.result.verdict, Verdict::Fixed, "{}", report_json(&finished));
    assert!(!deleted.is_empty());
    assert!(answers_from_plan(&finished) > 0, "the evidence of the plan is reused");

    let edit_owner = |s: &Simulator| {
        assert!(s.edit(KUSTOMIZE, "kustomizations", "media", "bazarr", |o| {
            o["spec"]["path"] = "./elsewhere".into();
        }));
    };
    for (meanwhile, expected) in [
        (insert_orphan as fn(&Simulator), "1 ReplicationSource appeared (media/younger)"),
        (edit_owner as fn(&Simulator), "media/bazarr changed"),
    ] {
        let (finished, _, simulator) = run(meanwhile).await;
        let (verdict, why) = (finished.result.verdict, &finished.report.summary);
        assert_eq!((verdict, finished.result.exit_code()), (Verdict::StalePlan, 9), "{why}");
        let stale = "the displayed plan is stale, and none of it was sent";
        assert!(why.contains(expected) && why.contains(stale), "{why}");
        assert!(why.contains("run the command again") && !why.contains("salve plan"), "{why}");
        assert_eq!(simulator.mutations(), vec![], "{why}");
    }
}

/// Changes of a cluster, and what is said about them.
type Case<'a> = (&'a [fn(&Simulator)], &'a [&'a str]);

/// The last write of the plan is the restart, but nothing of it is sent.
#[tokio::test]
async fn nothing_is_sent_if_an_object_of_the_plan_changed() {
    let planned = Planned::new().await;
    fn sonarr(s: &Simulator) -> Value {
        s.object(VOLSYNC, "replicationsources", "media", "sonarr").unwrap()
    }
    fn remove(s: &Simulator) {
        assert!(s.remove(VOLSYNC, "replicationsources", "media", "sonarr"));
    }
    fn recreate(s: &Simulator) {
        let mut recreated = sonarr(s);
        remove(s);
        let original = &recreated["metadata"];
        recreated["metadata"] = json!({
            "namespace": "media",
            "name": "sonarr",
            "creationTimestamp": original["creationTimestamp"],
            "labels": original["labels"],
        });
        assert!(s.insert(recreated).unwrap());
    }
    fn edit_source(s: &Simulator) {
        assert!(s.edit(VOLSYNC, "replicationsources", "media", "sonarr", |o| {
            o["spec"]["trigger"] = json!({"schedule": "0 1 * * *"});
        }));
    }
    fn edit_owner(s: &Simulator) {
        assert!(s.edit(KUSTOMIZE, "kustomizations", "media", "bazarr", |o| {
            o["spec"]["path"] = "./elsewhere".into();
        }));
    }
    fn suspend_owner(s: &Simulator) {
        assert!(s.edit(KUSTOMIZE, "kustomizations", "media", "bazarr", |o| {
            o["spec"]["suspend"] = true.into();
        }));
    }
    fn edit_controller(s: &Simulator) {
        assert!(s.edit("apps", "deployments", "rook-ceph", "csi-rbdplugin-provisioner", |o| {
            o["spec"]["minReadySeconds"] = 7.into();
        }));
    }
    /// The PVC whose absence was the reason.
    fn restore_pvc(s: &Simulator) {
        let name = sonarr(s)["spec"]["sourcePVC"].clone();
        let pvc = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": "media", "name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
                "storageClassName": "ceph-block",
                "volumeName": "pvc-restored",
            },
            "status": {"phase": "Bound"},
        });
        assert!(s.insert(pvc).unwrap());
    }
    let (source, owner, controller) = (
        "ReplicationSource media/sonarr ",
        "Kustomization media/bazarr ",
        "Deployment rook-ceph/csi-rbdplugin-provisioner ",
    );
    let cases: [Case<'_>; 9] = [
        (&[insert_orphan], &["1 ReplicationSource appeared (media/younger)"]),
        (&[restore_pvc], &["1 ReplicationSource disappeared (media/sonarr)"]),
        (&[edit_source], &[source]),
        (&[recreate], &[source]),
        (&[remove], &[source]),
        (&[edit_owner], &[owner]),
        (&[suspend_owner], &[owner]),
        (&[edit_controller], &[controller]),
        (&[edit_controller, edit_owner, remove], &[source, owner, controller]),
    ];
    for (changes, expected) in cases {
        let (finished, simulator) =
            planned.run(|simulator| changes.iter().for_each(|change| change(simulator))).await;
        let (verdict, why) = (finished.result.verdict, &finished.report.summary);
        assert_eq!((verdict, finished.result.exit_code()), (Verdict::StalePlan, 9), "{why}");
        let stale = ["is stale, and none of it was sent", "make a new plan with `salve plan`"];
        for part in expected.iter().chain(&stale) {
            assert!(why.contains(part), "{part} is missing: {why}");
        }
        assert_eq!(simulator.mutations(), vec![], "{why}");
    }
}

/// Ceph fails once the deletion has begun.
struct CephFails(Simulator);

impl Observer for CephFails {
    fn on_start(&mut self, _: &Effect) {}

    fn on_entry(&mut self, recorded: Recorded<'_>) {
        let opened = recorded.entry.opened();
        if opened.is_some_and(|opened| opened.effect.function() == Function::Delete) {
            assert!(self.0.edit("ceph.rook.io", "cephclusters", "rook-ceph", "rook-ceph", |o| {
                o["status"]["ceph"]["health"] = "HEALTH_ERR".into();
            }));
        }
    }
}

#[tokio::test]
async fn a_guest_that_ends_the_plan_early_has_its_own_verdict() {
    let planned = Planned::new().await;
    let (finished, simulator) =
        planned.run_with(|simulator| Frontend::observer(CephFails(simulator.clone()))).await;
    let (verdict, why) = (finished.result.verdict, &finished.report.summary);
    assert_eq!((verdict, finished.result.exit_code()), (Verdict::NotFixed, 1), "{why}");
    assert!(why.contains("not restarted: Ceph is in HEALTH_ERR"), "{why}");
    let paths: Vec<_> = simulator.mutations().into_iter().map(|request| request.uri).collect();
    assert!(paths.iter().any(|uri| uri.contains("/replicationsources/")), "{paths:?}");
    assert!(!paths.iter().any(|uri| uri.contains("/deployments/")), "{paths:?}");
    let annotated = simulator
        .objects(KUSTOMIZE, "kustomizations", None)
        .into_iter()
        .filter(|o| o["metadata"]["annotations"]["salve.dev/run"].is_string());
    assert_eq!(annotated.count(), 0, "what the run suspended is resumed");
}

#[tokio::test]
async fn a_plan_binds_documents_component_configuration_and_cluster() {
    let planned = Planned::new().await;
    let rejection = async |options: GuestOptions, plan: Plan| {
        let prepared = PreparedRun::prepare(
            ResolvedGuest::resolve("volsync-unlock", &options).unwrap(),
            &options,
        )
        .await
        .unwrap();
        prepared.bound_to(plan).err().map(|failed| failed.to_string()).unwrap_or_default()
    };
    let other = GuestOptions {
        config: vec!["stabilizationWindowSeconds=11".into(), "restoreTimeoutSeconds=10".into()],
        ..GuestOptions::default()
    };
    assert!(
        rejection(other, planned.plan())
            .await
            .contains("configuration: stabilizationWindowSeconds = 11 instead of 10")
    );
    let policy = planned.runs.path().join("policy.yaml");
    let text = "\
apiVersion: salve.dev/v1alpha1
kind: RemediationPolicy
metadata: {name: all}
spec:
  grants:
  - {capability: query-objects, kinds: [namespaces]}
";
    std::fs::write(&policy, text).unwrap();
    let other = GuestOptions {
        policy: Some(policy),
        config: planned.options.config.clone(),
        ..GuestOptions::default()
    };
    assert!(rejection(other, planned.plan()).await.contains("policy.yaml is new"));

    let mut guest = planned.plan().resolve_guest().unwrap();
    guest.digest = "0".repeat(64);
    let configuration = planned.plan().header().configuration.clone();
    assert!(
        planned
            .plan()
            .check_matches(&guest, &configuration)
            .unwrap_err()
            .to_string()
            .contains("component: sha256:000")
    );
    guest = planned.plan().resolve_guest().unwrap();
    assert!(planned.plan().check_matches(&guest, &configuration).is_ok());
    guest.documents.clear();
    assert!(
        planned
            .plan()
            .check_matches(&guest, &configuration)
            .unwrap_err()
            .to_string()
            .contains("not passed")
    );

    let mut session = ClusterSession::simulated(planned.simulator.fork()).await.unwrap();
    assert!(session.check_same_cluster(planned.plan().header()).is_ok());
    session.identity.uid = Some("another".into());
    assert!(
        session
            .check_same_cluster(planned.plan().header())
            .unwrap_err()
            .to_string()
            .contains("another cluster")
    );
}

#[tokio::test]
async fn a_foreign_plan_binds_the_run_but_its_evidence_is_not_used() {
    let planned = Planned::new().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("plan.jsonl");
    std::fs::copy(&planned.file, &copy).unwrap();
    let open = || Plan::open(planned.runs.path(), &copy.display().to_string()).unwrap();
    assert!(open().resolve_guest().err().unwrap().to_string().contains("name its guest"));
    assert!(open().reusable_entries(open().header().at).unwrap_err().contains("own folder"));
    let prepared = PreparedRun::prepare(
        ResolvedGuest::resolve("volsync-unlock", &planned.options).unwrap(),
        &planned.options,
    )
    .await
    .unwrap()
    .bound_to(open())
    .unwrap();
    let cluster = ClusterSession::simulated(planned.simulator.fork()).await.unwrap();
    let finished = prepared
        .run(Mode::Live, &cluster, Some(planned.runs.path()), Frontend::none())
        .await
        .unwrap();
    assert_eq!(answers_from_plan(&finished), 0, "its evidence is not trusted");
    assert_eq!(
        finished.report.plan.as_deref(),
        Some(planned.id.as_str()),
        "it still binds the run"
    );
}

#[tokio::test]
async fn only_a_complete_plan_can_be_approved() {
    let planned = Planned::new().await;
    let rejection = |path: &std::path::Path| {
        Plan::open(planned.runs.path(), &path.display().to_string()).err().unwrap().to_string()
    };
    let incomplete = planned.runs.path().join("torn.jsonl");
    let complete = std::fs::read_to_string(&planned.file).unwrap();
    let lines: Vec<_> = complete.lines().collect();
    std::fs::write(&incomplete, format!("{}\n", lines[..lines.len() - 1].join("\n"))).unwrap();
    assert!(rejection(&incomplete).contains("incomplete"), "{}", rejection(&incomplete));
    std::fs::write(&incomplete, complete.replacen("sonarr", "plexxx", 1)).unwrap();
    assert!(rejection(&incomplete).contains("line"), "{}", rejection(&incomplete));
    let (finished, _) = planned.run(|_| {}).await;
    assert!(rejection(finished.file.as_ref().unwrap()).contains("is not a plan"));
}

#[tokio::test]
async fn a_plan_describes_each_object() {
    let planned = Planned::new().await;
    let entries = RunFile::read(&planned.file).unwrap();
    let report = ReportBuilder::of(&entries).unwrap().into_report();
    let details = |effect: Function, target: &str| -> ObjectDetails {
        let lines = report.effects.iter().filter(|line| line.effect == effect);
        let all: Vec<_> = lines.flat_map(|line| &line.details).collect();
        let found = all.iter().find(|details| details.target == target);
        (*found.unwrap_or_else(|| panic!("{effect:?} {target}: {all:?}"))).clone()
    };
    let sonarr = details(Function::Delete, "media/sonarr");
    assert_eq!(
        (sonarr.reason.as_str(), sonarr.returns.as_deref()),
        ("its PVC no longer exists", Some("not in Git: will not come back"))
    );
    assert!(
        sonarr.created.is_some() && sonarr.last_backup.is_some() && sonarr.owner.is_none(),
        "{sonarr:?}"
    );
    let bazarr = details(Function::Delete, "media/bazarr");
    assert_eq!(bazarr.owner.as_deref(), Some("Kustomization media/bazarr"));
    assert!(bazarr.returns.unwrap().contains("remove it from Git"));
    let prowlarr = details(Function::Delete, "media/prowlarr");
    assert!(!prowlarr.returns.unwrap().contains("remove it"), "its PVC exists");
    let owner = details(Function::Suspend, "Kustomization media/bazarr");
    assert_eq!(owner.owner.as_deref(), Some("Kustomization flux-system/cluster-apps"));
    assert!(owner.created.is_some() && !owner.reason.is_empty());
    let restart = details(Function::Restart, "rook-ceph/csi-rbdplugin-provisioner");
    assert!(restart.created.is_some());
    for line in report.effects.iter().filter(|line| line.certainty == Some(Certainty::Exact)) {
        assert_eq!(
            line.details.iter().map(|details| &details.target).collect::<Vec<_>>(),
            line.targets.iter().collect::<Vec<_>>()
        );
    }
    let certainties: Vec<_> =
        report.effects.iter().map(|line| (line.certainty.unwrap(), line.effect)).collect();
    assert!(certainties.contains(&(Certainty::Predicted, Function::Resume)), "{certainties:?}");
    let is_expected = |(certainty, effect): &(Certainty, Function)| {
        (*certainty == Certainty::Predicted) == (*effect == Function::Resume)
    };
    assert!(certainties.iter().all(is_expected), "{certainties:?}");
}
