//! Runs the shipped component in the simulated cluster: what it changes, and what it leaves alone.

mod files;

use salve::arguments::GuestOptions;
use salve::cluster::ClusterSession;
use salve::guest::ResolvedGuest;
use salve::session::{FinishedRun, Frontend, PreparedRun};
use salve_core::capability::{Effect, Function, Write};
use salve_core::journal::{Entry, Recorded};
use salve_core::report::{Certainty, Verdict};
use salve_run::{Mode, Observer, RunFile};
use salve_simulator::{Exchange, Fault, Incident, Simulator};
use salve_tests::canary;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const FLUX: [(&str, &str); 3] = [
    ("kustomize.toolkit.fluxcd.io", "kustomizations"),
    ("helm.toolkit.fluxcd.io", "helmreleases"),
    ("source.toolkit.fluxcd.io", "gitrepositories"),
];

/// A simulated cluster and the folder of its runs.
struct TestCluster {
    simulator: Simulator,
    runs: tempfile::TempDir,
}

impl TestCluster {
    fn new(incident: Incident) -> Self {
        let simulator = Simulator::new(incident);
        assert!(canary::plant(&simulator) > 0);
        Self { simulator, runs: tempfile::tempdir().unwrap() }
    }

    async fn run_in(&self, mode: Mode, config: &[&str]) -> FinishedRun {
        self.run_with(mode, config, Frontend::none()).await
    }

    async fn run_with(&self, mode: Mode, config: &[&str], frontend: Frontend) -> FinishedRun {
        let options = GuestOptions {
            config: config.iter().map(ToString::to_string).collect(),
            ..GuestOptions::default()
        };
        let prepared = PreparedRun::prepare(
            ResolvedGuest::resolve("volsync-unlock", &options).unwrap(),
            &options,
        )
        .await
        .unwrap();
        let session = ClusterSession::simulated(self.simulator.clone()).await.unwrap();
        let finished =
            prepared.run(mode, &session, Some(self.runs.path()), frontend).await.unwrap();
        canary::ensure_none_in("the report", &serde_json::to_string(&finished.report).unwrap())
            .unwrap();
        canary::ensure_none_in_dir(self.runs.path()).unwrap();
        finished
    }

    async fn run(&self, config: &[&str]) -> FinishedRun {
        self.run_in(Mode::Live, config).await
    }

    /// Returns all suspended Flux objects, by kind and name.
    fn suspended(&self) -> BTreeSet<String> {
        let all =
            FLUX.iter().flat_map(|(group, plural)| self.simulator.objects(group, plural, None));
        all.filter(|o| o["spec"]["suspend"] == true)
            .map(|o| format!("{} {}", o["kind"].as_str().unwrap_or("?"), name(&o)))
            .collect()
    }

    /// Returns all Flux objects with an annotation of a run.
    fn annotated(&self) -> Vec<String> {
        let all =
            FLUX.iter().flat_map(|(group, plural)| self.simulator.objects(group, plural, None));
        all.filter(|o| {
            o["metadata"]["annotations"]
                .as_object()
                .is_some_and(|a| a.keys().any(|k| k.starts_with("salve.dev/")))
        })
        .map(|o| name(&o))
        .collect()
    }

    fn sources(&self) -> Vec<Value> {
        self.simulator.objects("volsync.backube", "replicationsources", None)
    }

    fn uid(&self, source: &str) -> Option<String> {
        self.sources()
            .iter()
            .find(|s| name(s) == source)
            .and_then(|s| s["metadata"]["uid"].as_str().map(Into::into))
    }

    fn locked_volumes(&self) -> usize {
        self.simulator.locks().len()
    }
}

/// Calls a function before the deletion is sent.
struct BeforeDeletion(Box<dyn FnMut() + Send>);

impl Observer for BeforeDeletion {
    fn on_start(&mut self, _: &Effect) {}
    fn on_entry(&mut self, recorded: Recorded<'_>) {
        if recorded.entry.opened().is_some_and(|o| o.effect.function() == Function::Delete) {
            (self.0)();
        }
    }
}

fn name(object: &Value) -> String {
    format!(
        "{}/{}",
        object["metadata"]["namespace"].as_str().unwrap_or("-"),
        object["metadata"]["name"].as_str().unwrap_or("?")
    )
}

/// Returns the names of the objects that the run requested to delete.
fn deleted(finished: &FinishedRun) -> BTreeSet<String> {
    let entries = RunFile::read(finished.file.as_ref().unwrap()).unwrap();
    let opened = entries.iter().filter_map(Entry::opened).map(|o| &o.effect);
    let deletions = opened.filter_map(|effect| {
        if let Effect::Write(Write::Delete(delete)) = effect { Some(delete) } else { None }
    });
    deletions.flat_map(|delete| &delete.set).map(|target| target.object.to_string()).collect()
}

/// Checks that each write that the cluster received has an entry in the run file.
fn assert_all_writes_recorded(cluster: &TestCluster, finished: &FinishedRun) {
    let entries = RunFile::read(finished.file.as_ref().unwrap()).unwrap();
    let mut names = BTreeSet::new();
    for opened in entries.iter().filter_map(Entry::opened) {
        if opened.effect.function() == Function::AcquireLease {
            // A creation is sent to the collection.
            names.insert("/leases".to_owned());
        }
        for target in opened.effect.targets() {
            names.insert(format!("/{}", target.name.unwrap()));
        }
        for object in &opened.observed.objects {
            names.insert(format!("/{}", object["metadata"]["name"].as_str().unwrap()));
        }
    }
    let unrecorded: Vec<_> = cluster
        .simulator
        .mutations()
        .into_iter()
        .filter(|m| {
            let path = m.uri.split('?').next().unwrap_or_default();
            !names.iter().any(|n| path.ends_with(n.as_str()))
        })
        .collect();
    assert!(unrecorded.is_empty(), "{unrecorded:#?}");
}

fn report_json(finished: &FinishedRun) -> String {
    serde_json::to_string_pretty(&finished.report).unwrap()
}

fn failed_requests(mutations: &[Exchange]) -> Vec<&Exchange> {
    mutations.iter().filter(|m| m.status.is_none_or(|s| s >= 400)).collect()
}

#[tokio::test]
async fn the_playbook_incident_is_fixed_with_proof() {
    let cluster = TestCluster::new(Incident::Playbook);
    let before = cluster.suspended();
    let plex = cluster.uid("media/plex").unwrap();
    let finished = cluster.run(&[]).await;
    assert_eq!(finished.result.verdict, Verdict::Fixed, "{}", report_json(&finished));
    assert_eq!(cluster.locked_volumes(), 0);
    assert_eq!(
        cluster.suspended(),
        before,
        "Flux is restored, and what a user suspended stays suspended"
    );
    assert_eq!(cluster.annotated(), Vec::<String>::new());
    assert_eq!(cluster.uid("media/plex").unwrap(), plex, "a healthy source is not deleted");
    assert!(
        deleted(&finished).contains("media/sonarr")
            && deleted(&finished).contains("home-automation/zigbee2mqtt"),
        "{:?}",
        deleted(&finished)
    );
    assert!(cluster.uid("media/sonarr").is_none(), "nothing re-creates an orphaned source");
    assert_all_writes_recorded(&cluster, &finished);
    assert!(
        failed_requests(&cluster.simulator.mutations()).is_empty(),
        "{:#?}",
        failed_requests(&cluster.simulator.mutations())
    );
}

#[tokio::test]
async fn manifests_are_saved_before_objects_are_deleted() {
    let cluster = TestCluster::new(Incident::Playbook);
    let sonarr = cluster
        .simulator
        .object("volsync.backube", "replicationsources", "media", "sonarr")
        .unwrap();
    let finished = cluster.run(&[]).await;
    let entries = RunFile::read(finished.file.as_ref().unwrap()).unwrap();
    let mut manifests =
        entries.iter().filter_map(Entry::opened).flat_map(|opened| &opened.observed.objects);
    let saved =
        manifests.find(|m| name(m) == "media/sonarr" && m["kind"] == "ReplicationSource").cloned();
    let saved = saved.expect("a saved manifest");
    assert_eq!(saved["spec"], sonarr["spec"]);
    assert!(saved["metadata"].get("managedFields").is_none());
}

#[tokio::test]
async fn the_run_waits_for_snapshots_of_deleted_sources_and_reports_those_that_remain() {
    let owned = |cluster: &TestCluster, uid: &str| {
        let all = cluster.simulator.objects("snapshot.storage.k8s.io", "volumesnapshots", None);
        all.into_iter()
            .filter(|s| s["metadata"]["ownerReferences"].to_string().contains(uid))
            .collect::<Vec<_>>()
    };
    let cluster = TestCluster::new(Incident::Playbook);
    let zigbee = cluster.uid("home-automation/zigbee2mqtt").unwrap();
    let snapshot = owned(&cluster, &zigbee).pop().expect("it has a stuck snapshot");
    cluster.run(&[]).await;
    assert!(owned(&cluster, &zigbee).is_empty(), "the run waits until they are gone");

    let cluster = TestCluster::new(Incident::Playbook);
    let kept = snapshot["metadata"]["name"].as_str().unwrap();
    assert!(cluster.simulator.edit(
        "snapshot.storage.k8s.io",
        "volumesnapshots",
        "home-automation",
        kept,
        |s| {
            match s["metadata"]["finalizers"].as_array_mut() {
                Some(all) => all.push(json!("example.org/keep")),
                None => s["metadata"]["finalizers"] = json!(["example.org/keep"]),
            }
        }
    ));
    let finished = cluster.run(&[]).await;
    let remaining: Vec<_> = finished
        .report
        .remaining
        .iter()
        .filter(|f| f.text.contains("still exist"))
        .flat_map(|f| f.details.clone())
        .collect();
    assert!(remaining.iter().any(|line| line.contains(kept)), "{}", report_json(&finished));
}

#[tokio::test]
async fn plan_and_report_name_sources_that_would_back_up_a_new_volume() {
    let cluster = TestCluster::new(Incident::Playbook);
    for finished in [cluster.run_in(Mode::Plan, &[]).await, cluster.run(&[]).await] {
        assert!(
            report_json(&finished).contains("brand-new (possibly empty) PVC: ai/ollama"),
            "{}",
            report_json(&finished)
        );
    }
}

#[tokio::test]
async fn a_diagnosis_and_a_plan_change_nothing() {
    let cluster = TestCluster::new(Incident::Playbook);
    let check = cluster.run_in(Mode::Diagnosis, &[]).await;
    assert_eq!(
        check.result.verdict,
        Verdict::NotFixed,
        "the incident is present: {}",
        report_json(&check)
    );
    let plan = cluster.run_in(Mode::Plan, &[]).await;
    assert_eq!(plan.result.verdict, Verdict::Planned, "{}", report_json(&plan));
    assert_eq!(cluster.simulator.mutations(), vec![]);
    let planned: BTreeSet<_> = plan
        .report
        .effects
        .iter()
        .filter(|effect| effect.certainty == Some(Certainty::Exact))
        .map(|effect| effect.effect)
        .collect();
    assert_eq!(planned, BTreeSet::from([Function::Suspend, Function::Delete, Function::Restart]));
    assert!(
        plan.report.effects.iter().any(|effect| effect.certainty == Some(Certainty::Predicted)),
        "a plan lists what would be resumed"
    );
}

#[tokio::test]
async fn a_run_writes_to_exactly_the_planned_objects() {
    let cluster = TestCluster::new(Incident::Playbook);
    let plan = cluster.run_in(Mode::Plan, &[]).await;
    let run = cluster.run(&[]).await;
    let targets = |finished: &FinishedRun, function: Function| {
        finished
            .report
            .effects
            .iter()
            .filter(|effect| effect.effect == function)
            .flat_map(|effect| effect.targets.clone())
            .collect::<BTreeSet<_>>()
    };
    for function in [Function::Suspend, Function::Delete, Function::Restart] {
        assert_eq!(targets(&plan, function), targets(&run, function), "{function:?}");
    }
}

#[tokio::test]
async fn pvcs_whose_data_would_be_lost_stop_the_run_without_consent() {
    let cluster = TestCluster::new(Incident::TerminatingDelete);
    let finished = cluster.run(&[]).await;
    assert_eq!(finished.result.verdict, Verdict::NotFixed, "{}", report_json(&finished));
    assert!(
        report_json(&finished).contains("home-automation/zigbee2mqtt"),
        "{}",
        report_json(&finished)
    );
    assert_eq!(cluster.simulator.mutations(), vec![]);
    let finished = cluster.run(&["completePvcDeletions=true"]).await;
    assert_eq!(finished.result.verdict, Verdict::Fixed, "{}", report_json(&finished));
}

/// Creates a Pending PVC in `media`, with the latest event of its driver. `UID` in the message
/// stands for that of the PVC.
fn add_pending_pvc(cluster: &TestCluster, name: &str, driver: &str, message: &str) {
    let annotation = json!({"volume.kubernetes.io/storage-provisioner": driver});
    let pvc = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "media", "annotations": annotation},
        "spec": {"storageClassName": driver}, "status": {"phase": "Pending"},
    });
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": driver},
        "provisioner": driver, "volumeBindingMode": "Immediate",
    });
    assert!(cluster.simulator.insert(class).unwrap());
    assert!(cluster.simulator.insert(pvc).unwrap());
    let pvc = cluster.simulator.object("", "persistentvolumeclaims", "media", name).unwrap();
    let reference = json!({
        "kind": "PersistentVolumeClaim", "namespace": "media", "name": name,
        "uid": pvc["metadata"]["uid"],
    });
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("{name}.1"), "namespace": "media"},
        "involvedObject": reference, "reason": "ProvisioningFailed",
        "message": message.replace("UID", pvc["metadata"]["uid"].as_str().unwrap()),
        "lastTimestamp": pvc["metadata"]["creationTimestamp"],
    });
    assert!(cluster.simulator.insert(event).unwrap());
}

/// As in kubernetes-sigs/aws-ebs-csi-driver#1766 and kubernetes-csi/csi-driver-smb#661.
#[tokio::test]
async fn a_pvc_of_another_driver_does_not_keep_the_incident_from_being_fixed() {
    let cluster = TestCluster::new(Incident::Playbook);
    for (name, driver, message) in [
        ("share", "smb.csi.k8s.io", "code = DeadlineExceeded desc = context deadline exceeded"),
        (
            "library",
            "rook-ceph.cephfs.csi.ceph.com",
            "code = Aborted desc = an operation with the given Volume ID \
             pvc-UID already exists",
        ),
    ] {
        let message = format!("failed to provision volume: rpc error: {message}");
        add_pending_pvc(&cluster, name, driver, &message);
    }
    let finished = cluster.run(&[]).await;
    assert_eq!(finished.result.verdict, Verdict::Fixed, "{}", report_json(&finished));
    let remaining: Vec<&str> =
        finished.report.remaining.iter().map(|finding| finding.text.as_str()).collect();
    for (name, driver) in
        [("media/share", "smb.csi.k8s.io"), ("media/library", "rook-ceph.cephfs.csi.ceph.com")]
    {
        let is_named = |text: &&str| text.starts_with(name) && text.contains(driver);
        assert!(remaining.iter().any(is_named), "{name}: {remaining:#?}");
    }
}

#[tokio::test]
async fn mode_all_deletes_every_source_that_flux_recreates_and_restores_flux() {
    let cluster = TestCluster::new(Incident::Playbook);
    let before = cluster.suspended();
    let all: BTreeSet<_> = cluster.sources().iter().map(name).collect();
    let finished = cluster.run(&["mode=all"]).await;
    assert_eq!(finished.result.verdict, Verdict::Fixed, "{}", report_json(&finished));
    assert!(
        deleted(&finished).len() > 12 && deleted(&finished).is_subset(&all),
        "{:?}",
        deleted(&finished)
    );
    assert_eq!(cluster.suspended(), before);
    assert!(cluster.uid("media/plex").is_some(), "Flux re-created what Git declares");
    assert_all_writes_recorded(&cluster, &finished);
}

#[tokio::test]
async fn an_owner_suspended_by_another_run_stops_the_run_before_any_write() {
    let cluster = TestCluster::new(Incident::Playbook);
    let plan = cluster.run_in(Mode::Plan, &[]).await;
    let owner = plan
        .report
        .effects
        .iter()
        .find(|e| e.effect == Function::Suspend && e.targets[0].starts_with("Kustomization"))
        .expect("an owner is suspended");
    let (namespace, owner) =
        owner.targets[0].trim_start_matches("Kustomization ").split_once('/').unwrap();
    assert!(cluster.simulator.edit(
        "kustomize.toolkit.fluxcd.io",
        "kustomizations",
        namespace,
        owner,
        |o| {
            o["spec"]["suspend"] = json!(true);
            o["metadata"]["annotations"]["salve.dev/run"] = json!("0badcafe");
            o["metadata"]["annotations"]["salve.dev/reason"] = json!("another run");
        }
    ));
    let finished = cluster.run(&[]).await;
    assert!(matches!(finished.result.verdict, Verdict::NotFixed), "{}", report_json(&finished));
    assert!(report_json(&finished).contains("0badcafe"), "{}", report_json(&finished));
    assert_eq!(cluster.simulator.mutations(), vec![]);
}

#[tokio::test]
async fn a_parent_that_would_revert_the_suspend_is_suspended_first() {
    let cluster = TestCluster::new(Incident::Playbook);
    let plan = cluster.run_in(Mode::Plan, &[]).await;
    let owner = plan
        .report
        .effects
        .iter()
        .find(|e| e.effect == Function::Suspend && e.targets[0].starts_with("Kustomization"))
        .expect("an owner is suspended");
    let (namespace, owner) =
        owner.targets[0].trim_start_matches("Kustomization ").split_once('/').unwrap();
    // Git declares `suspend: false`: the parent owns the field and would revert the suspend.
    assert!(cluster.simulator.edit(
        "kustomize.toolkit.fluxcd.io",
        "kustomizations",
        namespace,
        owner,
        |o| {
            o["spec"]["suspend"] = json!(false);
            let owned = json!({
                "manager": "kustomize-controller",
                "operation": "Apply",
                "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:suspend": {}}},
            });
            match o["metadata"]["managedFields"].as_array_mut() {
                Some(fields) => fields.push(owned),
                None => o["metadata"]["managedFields"] = json!([owned]),
            }
        }
    ));
    let finished = cluster.run(&[]).await;
    let suspended: Vec<_> = finished
        .report
        .effects
        .iter()
        .filter(|effect| effect.effect == Function::Suspend)
        .flat_map(|effect| effect.targets.clone())
        .collect();
    let parent = suspended.iter().position(|t| t.ends_with("flux-system/cluster-apps"));
    let child = suspended.iter().position(|t| t.ends_with(&format!("{namespace}/{owner}")));
    assert!(parent.is_some() && parent < child, "{suspended:?}\n{}", report_json(&finished));
    assert_eq!(finished.result.verdict, Verdict::Fixed, "{}", report_json(&finished));
    let after = cluster
        .simulator
        .object("kustomize.toolkit.fluxcd.io", "kustomizations", namespace, owner)
        .unwrap();
    assert_eq!(
        after["spec"]["suspend"],
        json!(false),
        "false differs from absent: the previous value is restored"
    );
}

#[tokio::test]
async fn a_missing_csi_controller_stops_the_run_before_any_write() {
    let cluster = TestCluster::new(Incident::Playbook);
    assert!(cluster.simulator.remove(
        "apps",
        "deployments",
        "rook-ceph",
        "csi-rbdplugin-provisioner"
    ));
    let finished = cluster.run(&["evidence=waived"]).await;
    assert!(!matches!(finished.result.verdict, Verdict::Fixed), "{}", report_json(&finished));
    assert_eq!(cluster.simulator.mutations(), vec![]);
}

#[tokio::test]
async fn flux_is_resumed_if_the_cluster_rejects_a_write() {
    for (verb, part) in [("delete", "replicationsources"), ("patch", "deployments")] {
        let cluster = TestCluster::new(Incident::Playbook);
        let before = cluster.suspended();
        cluster.simulator.fault(Fault::status(403).on(verb).at(part));
        let finished = cluster.run(&[]).await;
        assert!(
            !matches!(finished.result.verdict, Verdict::Fixed),
            "{verb} {part}: {}",
            report_json(&finished)
        );
        assert_eq!(cluster.suspended(), before, "{verb} {part}");
        assert_eq!(cluster.annotated(), Vec::<String>::new(), "{verb} {part}");
    }
}

#[tokio::test]
async fn a_rejected_read_stops_the_run_before_any_write() {
    for part in
        ["persistentvolumeclaims", "replicationsources", "kustomizations", "/log", "deployments"]
    {
        let cluster = TestCluster::new(Incident::Playbook);
        cluster.simulator.fault(Fault::status(403).at(part));
        let finished = cluster.run(&[]).await;
        assert!(
            !matches!(finished.result.verdict, Verdict::Fixed | Verdict::NothingToDo),
            "{part}: {}",
            report_json(&finished)
        );
        assert_eq!(
            cluster
                .simulator
                .mutations()
                .into_iter()
                .filter(|m| m.status != Some(403))
                .collect::<Vec<_>>(),
            vec![],
            "{part}"
        );
    }
}

#[tokio::test]
async fn rejected_credentials_are_reported_when_connecting() {
    let cluster = TestCluster::new(Incident::Playbook);
    cluster.simulator.fault(Fault::status(401));
    let Err(failed) = ClusterSession::simulated(cluster.simulator.clone()).await else {
        panic!("connected to a cluster that rejects the credentials")
    };
    assert!(failed.to_string().contains("credentials"), "{failed}");
}

#[tokio::test]
async fn without_volsync_only_the_driver_is_restarted() {
    let cluster = TestCluster::new(Incident::Playbook);
    cluster.simulator.uninstall("volsync.backube");
    let finished = cluster.run(&[]).await;
    let report = report_json(&finished);
    assert!(report.contains("VolSync is not installed"), "{report}");
    let written: Vec<String> = cluster
        .simulator
        .mutations()
        .iter()
        .map(|write| format!("{} {}", write.verb, write.uri.split('?').next().unwrap_or_default()))
        .collect();
    assert_eq!(
        written,
        [
            "create /apis/coordination.k8s.io/v1/namespaces/default/leases",
            "patch /apis/apps/v1/namespaces/rook-ceph/deployments/csi-rbdplugin-provisioner",
            "delete /apis/coordination.k8s.io/v1/namespaces/default/leases/salve",
        ]
    );
}

#[tokio::test]
async fn malformed_responses_lead_to_no_writes() {
    for part in [
        "persistentvolumeclaims",
        "replicationsources",
        "kustomizations",
        "/apis/volsync.backube",
        "leases",
    ] {
        let cluster = TestCluster::new(Incident::Playbook);
        cluster.simulator.fault(Fault::garbage().on("get").at(part));
        cluster.simulator.fault(Fault::garbage().on("list").at(part));
        let finished = cluster.run(&[]).await;
        assert!(
            !matches!(finished.result.verdict, Verdict::Fixed | Verdict::NothingToDo),
            "{part}: {}",
            report_json(&finished)
        );
        assert_eq!(cluster.simulator.mutations(), vec![], "{part}");
    }
}

#[tokio::test]
async fn a_rejected_verb_is_attributed_to_rbac() {
    for verb in ["get", "list", "patch", "delete"] {
        let cluster = TestCluster::new(Incident::Playbook);
        let before = cluster.suspended();
        // Discovery is not affected: every user may use it.
        for part in ["/namespaces/media/", "/namespaces/rook-ceph/"] {
            cluster.simulator.fault(Fault::status(403).on(verb).at(part));
        }
        let finished = cluster.run(&[]).await;
        // If one namespace rejects deletions, those in the others may suffice.
        let fixed = verb == "delete" && finished.result.verdict == Verdict::Fixed;
        assert!(
            fixed || !matches!(finished.result.verdict, Verdict::Fixed | Verdict::NothingToDo),
            "{verb}: {}",
            report_json(&finished)
        );
        assert!(report_json(&finished).contains("RBAC"), "{verb}: {}", report_json(&finished));
        assert_eq!(cluster.suspended(), before, "{verb}");
        assert_eq!(cluster.annotated(), Vec::<String>::new(), "{verb}");
    }
}

#[tokio::test]
async fn a_suspension_that_cannot_be_released_requires_action() {
    let cluster = TestCluster::new(Incident::Playbook);
    // Suspends succeed; from the deletion on, all writes to Flux objects fail.
    let observer = BeforeDeletion(Box::new({
        let simulator = cluster.simulator.clone();
        move || simulator.fault(Fault::status(403).on("patch").at("toolkit.fluxcd.io"))
    }));
    let finished = cluster.run_with(Mode::Live, &[], Frontend::observer(observer)).await;
    assert_eq!(finished.result.verdict, Verdict::ActionRequired, "{}", report_json(&finished));
    assert_eq!(finished.result.open.len(), cluster.annotated().len());
    assert!(report_json(&finished).contains("flux resume"), "{}", report_json(&finished));
}

#[tokio::test]
async fn a_lost_response_is_resolved_by_reading() {
    for fault in [
        Fault::dropped(),
        Fault::dropped().after_applying(),
        Fault::status(504).after_applying(),
        Fault::status(504),
    ] {
        for (verb, part) in [
            ("patch", "kustomizations"),
            ("delete", "replicationsources"),
            ("patch", "deployments"),
        ] {
            let cluster = TestCluster::new(Incident::Playbook);
            let before = cluster.suspended();
            cluster.simulator.fault(fault.clone().on(verb).at(part).nth(1));
            let finished = cluster.run(&[]).await;
            assert_eq!(
                cluster.suspended(),
                before,
                "{fault:?} {verb} {part}: {}",
                report_json(&finished)
            );
            assert_eq!(cluster.annotated(), Vec::<String>::new(), "{fault:?} {verb} {part}");
            assert_ne!(finished.result.verdict, Verdict::ActionRequired);
            let restarts = cluster
                .simulator
                .mutations()
                .into_iter()
                .filter(|m| m.applied && m.uri.contains("deployments"))
                .count();
            assert!(restarts <= 1, "{fault:?} {verb} {part}: restarted {restarts} times");
        }
    }
}

/// Loses the response to the creation of the Lease, and has this fault at the reads after it.
struct LoseLeaseResponse(Simulator, Fault);

impl Observer for LoseLeaseResponse {
    fn on_start(&mut self, _: &Effect) {}
    fn on_entry(&mut self, recorded: Recorded<'_>) {
        if recorded.entry.opened().is_some_and(|o| o.effect.function() == Function::AcquireLease) {
            self.0.fault(Fault::dropped().on("create").at("/leases").first(1).after_applying());
            self.0.fault(self.1.clone().on("get").at("/leases/"));
        }
    }
}

#[tokio::test]
async fn a_lease_acquired_without_a_response_is_released_or_reported() {
    let failed = Verdict::Failed(salve_core::outcome::Fault::Cluster);
    for (fault, verdict) in [
        (Fault::dropped().first(6), failed),
        (Fault::dropped().first(200), failed),
        (Fault::status(403), Verdict::ActionRequired),
    ] {
        let cluster = TestCluster::new(Incident::Playbook);
        let observer = LoseLeaseResponse(cluster.simulator.clone(), fault.clone());
        let finished = cluster.run_with(Mode::Live, &[], Frontend::observer(observer)).await;
        let exists =
            cluster.simulator.object("coordination.k8s.io", "leases", "default", "salve").is_some();
        let report = serde_json::to_string(&finished.report).unwrap();
        assert_eq!(finished.result.verdict, verdict, "{fault:?}: {report}");
        assert_eq!(exists, verdict == Verdict::ActionRequired, "{fault:?}: {report}");
        let reported = report.contains("may still hold the cluster")
            && report.contains("kubectl delete lease salve -n default");
        assert_eq!(exists, reported, "{fault:?}: {report}");
        assert_eq!(cluster.annotated(), Vec::<String>::new());
    }
}
