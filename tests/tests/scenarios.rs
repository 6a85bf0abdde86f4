//! The shipped guest, as the component that ships, in the simulated cluster: what it does, and what it leaves alone.

use salve::arguments::GuestOptions;
use salve::cluster::ClusterSession;
use salve::guest::ResolvedGuest;
use salve::session::{FinishedRun, PreparedRun};
use salve_core::effect::{Effect, Write};
use salve_core::journal::Entry;
use salve_core::report::Verdict;
use salve_run::{Mode, NoObserver, Observer, RunFile};
use salve_simulator::{Exchange, Fault, Incident, Simulator};
use salve_tests::canary;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const FLUX: [(&str, &str); 3] = [
    ("kustomize.toolkit.fluxcd.io", "kustomizations"),
    ("helm.toolkit.fluxcd.io", "helmreleases"),
    ("source.toolkit.fluxcd.io", "gitrepositories"),
];

/// One cluster and the folder of its runs.
struct Scene {
    simulator: Simulator,
    runs: tempfile::TempDir,
}

impl Scene {
    fn new(incident: Incident) -> Self {
        let simulator = Simulator::new(incident);
        assert!(canary::plant(&simulator) > 0);
        Self { simulator, runs: tempfile::tempdir().unwrap() }
    }

    async fn play(&self, mode: Mode, config: &[&str]) -> FinishedRun {
        self.watched(mode, config, Box::new(NoObserver)).await
    }

    async fn watched(
        &self,
        mode: Mode,
        config: &[&str],
        observer: Box<dyn Observer>,
    ) -> FinishedRun {
        let terms = GuestOptions {
            config: config.iter().map(ToString::to_string).collect(),
            ..GuestOptions::default()
        };
        let ready =
            PreparedRun::prepare(ResolvedGuest::find("volsync-unlock", &terms).unwrap(), &terms)
                .await
                .unwrap();
        let open = ClusterSession::simulated(self.simulator.clone()).await.unwrap();
        let over = ready.run(mode, &open, Some(self.runs.path()), person).await.unwrap();
        canary::listen("the report", &serde_json::to_string(&over.report).unwrap()).unwrap();
        canary::listen_below(self.runs.path()).unwrap();
        over
    }

    async fn run(&self, config: &[&str]) -> FinishedRun {
        self.play(Mode::Live, config).await
    }

    /// Everything that Flux holds suspended, by kind and name.
    fn suspended(&self) -> BTreeSet<String> {
        let all =
            FLUX.iter().flat_map(|(group, plural)| self.simulator.objects(group, plural, None));
        all.filter(|o| o["spec"]["suspend"] == true)
            .map(|o| format!("{} {}", o["kind"].as_str().unwrap_or("?"), name(&o)))
            .collect()
    }

    /// Everything that bears the mark of a run.
    fn marked(&self) -> Vec<String> {
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

    fn locked_claims(&self) -> usize {
        self.simulator.locks().len()
    }
}

/// Does something when the deletion is about to be sent.
struct AtDeletion(Box<dyn FnMut() + Send>);

impl Observer for AtDeletion {
    fn on_start(&mut self, _: &Effect) {}
    fn on_entry(&mut self, entry: &Entry) {
        if let Entry::Opened(opened) = entry
            && let Effect::Write(Write::Delete(_)) = opened.effect
        {
            (self.0)();
        }
    }
    fn ask(&mut self, _: &str) -> futures::future::BoxFuture<'static, Option<bool>> {
        Box::pin(async { None })
    }
}

fn name(object: &Value) -> String {
    format!(
        "{}/{}",
        object["metadata"]["namespace"].as_str().unwrap_or("-"),
        object["metadata"]["name"].as_str().unwrap_or("?")
    )
}

/// Names of what the run asked to delete.
fn deleted(over: &FinishedRun) -> BTreeSet<String> {
    let entries = RunFile::read(over.file.as_ref().unwrap()).unwrap();
    let opened = entries.iter().filter_map(Entry::opened).map(|o| &o.effect);
    opened
        .flat_map(|effect| match effect {
            Effect::Write(Write::Delete(d)) => {
                d.set.iter().map(|f| f.object.to_string()).collect::<Vec<_>>()
            }
            Effect::Write(
                Write::AcquireLease(_)
                | Write::ReleaseLease(_)
                | Write::Suspend(_)
                | Write::Resume(_)
                | Write::Reconcile(_)
                | Write::Recreate(_)
                | Write::Restart(_),
            )
            | Effect::Read(_)
            | Effect::Local(_) => vec![],
        })
        .collect()
}

/// Each mutation that the cluster saw belongs to an entry of the run file that was written before it.
fn every_mutation_is_in_the_run_file(scene: &Scene, over: &FinishedRun) {
    let entries = RunFile::read(over.file.as_ref().unwrap()).unwrap();
    let mut names = BTreeSet::new();
    for entry in &entries {
        if let Entry::Opened(opened) = entry {
            if let Effect::Write(Write::AcquireLease(_)) = opened.effect {
                // It is made in its collection.
                names.insert("/leases".to_owned());
            }
            for target in opened.effect.targets() {
                names.insert(format!("/{}", target.name.unwrap()));
            }
            for object in &opened.observed.objects {
                names.insert(format!("/{}", object["metadata"]["name"].as_str().unwrap()));
            }
        }
    }
    let stray: Vec<_> = scene
        .simulator
        .mutations()
        .into_iter()
        .filter(|m| {
            let path = m.uri.split('?').next().unwrap_or_default();
            !names.iter().any(|n| path.ends_with(n.as_str()))
        })
        .collect();
    assert!(stray.is_empty(), "{stray:#?}");
}

fn told(over: &FinishedRun) -> String {
    serde_json::to_string_pretty(&over.report).unwrap()
}

fn refused(mutations: &[Exchange]) -> Vec<&Exchange> {
    mutations.iter().filter(|m| m.status.is_none_or(|s| s >= 400)).collect()
}

#[tokio::test]
async fn the_playbooks_incident_is_fixed_and_proven() {
    let scene = Scene::new(Incident::Playbook);
    let before = scene.suspended();
    let plex = scene.uid("media/plex").unwrap();
    let over = scene.run(&[]).await;
    assert_eq!(over.closing.verdict, Verdict::Fixed, "{}", told(&over));
    assert_eq!(scene.locked_claims(), 0);
    assert_eq!(
        scene.suspended(),
        before,
        "Flux is as it was, and what a person suspended stays so"
    );
    assert_eq!(scene.marked(), Vec::<String>::new());
    assert_eq!(scene.uid("media/plex").unwrap(), plex, "a healthy source is not touched");
    assert!(
        deleted(&over).contains("media/sonarr")
            && deleted(&over).contains("home-automation/zigbee2mqtt"),
        "{:?}",
        deleted(&over)
    );
    assert!(scene.uid("media/sonarr").is_none(), "nobody re-creates an abandoned source");
    every_mutation_is_in_the_run_file(&scene, &over);
    assert!(
        refused(&scene.simulator.mutations()).is_empty(),
        "{:#?}",
        refused(&scene.simulator.mutations())
    );
}

#[tokio::test]
async fn manifests_of_what_is_deleted_are_saved_before() {
    let scene = Scene::new(Incident::Playbook);
    let sonarr =
        scene.simulator.object("volsync.backube", "replicationsources", "media", "sonarr").unwrap();
    let over = scene.run(&[]).await;
    let entries = RunFile::read(over.file.as_ref().unwrap()).unwrap();
    let mut manifests =
        entries.iter().filter_map(Entry::opened).flat_map(|opened| &opened.observed.objects);
    let saved =
        manifests.find(|m| name(m) == "media/sonarr" && m["kind"] == "ReplicationSource").cloned();
    let saved = saved.expect("a saved manifest");
    assert_eq!(saved["spec"], sonarr["spec"]);
    assert!(saved["metadata"].get("managedFields").is_none());
}

#[tokio::test]
async fn snapshots_of_deleted_sources_are_waited_for_and_what_stays_is_told() {
    let owned = |scene: &Scene, uid: &str| {
        let all = scene.simulator.objects("snapshot.storage.k8s.io", "volumesnapshots", None);
        all.into_iter()
            .filter(|s| s["metadata"]["ownerReferences"].to_string().contains(uid))
            .collect::<Vec<_>>()
    };
    let scene = Scene::new(Incident::Playbook);
    let zigbee = scene.uid("home-automation/zigbee2mqtt").unwrap();
    let snapshot = owned(&scene, &zigbee).pop().expect("its snapshot is wedged");
    scene.run(&[]).await;
    assert!(owned(&scene, &zigbee).is_empty(), "the run ends after they have gone");

    let scene = Scene::new(Incident::Playbook);
    let kept = snapshot["metadata"]["name"].as_str().unwrap();
    assert!(scene.simulator.edit(
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
    let over = scene.run(&[]).await;
    let left: Vec<_> = over
        .report
        .left
        .iter()
        .filter(|f| f.text.contains("still there"))
        .flat_map(|f| f.details.clone())
        .collect();
    assert!(left.iter().any(|line| line.contains(kept)), "{}", told(&over));
}

#[tokio::test]
async fn sources_about_to_back_up_a_fresh_volume_are_named_in_plan_and_report() {
    let scene = Scene::new(Incident::Playbook);
    for over in [scene.play(Mode::Plan, &[]).await, scene.run(&[]).await] {
        assert!(
            told(&over).contains("will back up a freshly made volume: ai/ollama"),
            "{}",
            told(&over)
        );
    }
}

#[tokio::test]
async fn a_diagnosis_and_a_plan_change_nothing() {
    let scene = Scene::new(Incident::Playbook);
    let check = scene.play(Mode::Diagnosis, &[]).await;
    assert_eq!(check.closing.verdict, Verdict::NotFixed, "the incident is here: {}", told(&check));
    let plan = scene.play(Mode::Plan, &[]).await;
    assert_eq!(plan.closing.verdict, Verdict::Planned, "{}", told(&plan));
    assert_eq!(scene.simulator.mutations(), vec![]);
    let planned: BTreeSet<_> = plan
        .report
        .effects
        .iter()
        .filter(|t| t.certainty == Some("exact"))
        .map(|t| t.effect)
        .collect();
    assert_eq!(
        planned,
        BTreeSet::from([
            "suspend-flux.suspend",
            "delete-replicationsources.delete",
            "restart-deployment.restart"
        ])
    );
    assert!(
        plan.report.effects.iter().any(|told| told.certainty == Some("predicted")),
        "a plan lists what would be given back"
    );
}

#[tokio::test]
async fn what_was_planned_is_what_is_done() {
    let scene = Scene::new(Incident::Playbook);
    let plan = scene.play(Mode::Plan, &[]).await;
    let run = scene.run(&[]).await;
    let of = |over: &FinishedRun, effect: &str| {
        over.report
            .effects
            .iter()
            .filter(|t| t.effect == effect)
            .flat_map(|t| t.targets.clone())
            .collect::<BTreeSet<_>>()
    };
    for effect in
        ["suspend-flux.suspend", "delete-replicationsources.delete", "restart-deployment.restart"]
    {
        assert_eq!(of(&plan, effect), of(&run, effect), "{effect}");
    }
}

#[tokio::test]
async fn a_healthy_cluster_is_left_alone_and_called_healthy() {
    let scene = Scene::new(Incident::Healthy);
    let over = scene.run(&[]).await;
    assert_eq!(over.closing.verdict, Verdict::NothingToDo, "{}", told(&over));
    assert_eq!(scene.simulator.mutations(), vec![]);
}

#[tokio::test]
async fn look_alikes_are_left_alone_and_called_by_their_names() {
    for (incident, word) in
        [(Incident::MissingSnapshotter, "snapshotter"), (Incident::CephInError, "HEALTH_ERR")]
    {
        let scene = Scene::new(incident);
        let over = scene.run(&[]).await;
        assert_eq!(over.closing.verdict, Verdict::DifferentProblem, "{incident}: {}", told(&over));
        assert!(told(&over).contains(word), "{incident}: {}", told(&over));
        assert_eq!(scene.simulator.mutations(), vec![], "{incident}");
    }
}

#[tokio::test]
async fn claims_whose_data_would_be_lost_stop_the_run_without_consent() {
    let scene = Scene::new(Incident::TerminatingDelete);
    let over = scene.run(&[]).await;
    assert_eq!(over.closing.verdict, Verdict::NotFixed, "{}", told(&over));
    assert!(told(&over).contains("home-automation/zigbee2mqtt"), "{}", told(&over));
    assert_eq!(scene.simulator.mutations(), vec![]);
    let over = scene.run(&["complete-deletions=true"]).await;
    assert_eq!(over.closing.verdict, Verdict::Fixed, "{}", told(&over));
}

#[tokio::test]
async fn an_operator_that_undoes_annotations_is_outwitted_by_replacing_pods() {
    let scene = Scene::new(Incident::OperatorManaged);
    let over = scene.run(&[]).await;
    assert_eq!(over.closing.verdict, Verdict::Fixed, "{}", told(&over));
    assert_eq!(scene.locked_claims(), 0);
}

#[tokio::test]
async fn the_literal_playbook_deletes_every_source_that_comes_back_and_leaves_flux_as_it_was() {
    let scene = Scene::new(Incident::Playbook);
    let before = scene.suspended();
    let all: BTreeSet<_> = scene.sources().iter().map(name).collect();
    let over = scene.run(&["mode=all"]).await;
    assert_eq!(over.closing.verdict, Verdict::Fixed, "{}", told(&over));
    assert!(deleted(&over).len() > 12 && deleted(&over).is_subset(&all), "{:?}", deleted(&over));
    assert_eq!(scene.suspended(), before);
    assert!(scene.uid("media/plex").is_some(), "Flux has re-created what Git declares");
    every_mutation_is_in_the_run_file(&scene, &over);
}

#[tokio::test]
async fn an_owner_that_another_run_holds_is_refused_before_anything_is_changed() {
    let scene = Scene::new(Incident::Playbook);
    let plan = scene.play(Mode::Plan, &[]).await;
    let owner = plan
        .report
        .effects
        .iter()
        .find(|t| t.effect == "suspend-flux.suspend" && t.targets[0].starts_with("kustomization"))
        .expect("an owner is frozen");
    let (namespace, owner) =
        owner.targets[0].trim_start_matches("kustomization ").split_once('/').unwrap();
    assert!(scene.simulator.edit(
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
    let over = scene.run(&[]).await;
    assert!(matches!(over.closing.verdict, Verdict::NotFixed), "{}", told(&over));
    assert!(told(&over).contains("0badcafe"), "{}", told(&over));
    assert_eq!(scene.simulator.mutations(), vec![]);
}

#[tokio::test]
async fn a_parent_that_would_revert_the_suspend_is_frozen_first() {
    let scene = Scene::new(Incident::Playbook);
    let plan = scene.play(Mode::Plan, &[]).await;
    let owner = plan
        .report
        .effects
        .iter()
        .find(|t| t.effect == "suspend-flux.suspend" && t.targets[0].starts_with("kustomization"))
        .expect("an owner is frozen");
    let (namespace, owner) =
        owner.targets[0].trim_start_matches("kustomization ").split_once('/').unwrap();
    // Git states `suspend: false`: the parent owns the field, and would flip it back.
    assert!(scene.simulator.edit("kustomize.toolkit.fluxcd.io", "kustomizations", namespace, owner, |o| {
        o["spec"]["suspend"] = json!(false);
        let owned = json!({"manager": "kustomize-controller", "operation": "Apply", "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:suspend": {}}}});
        match o["metadata"]["managedFields"].as_array_mut() {
            Some(fields) => fields.push(owned),
            None => o["metadata"]["managedFields"] = json!([owned]),
        }
    }));
    let over = scene.run(&[]).await;
    let frozen: Vec<_> = over
        .report
        .effects
        .iter()
        .filter(|t| t.effect == "suspend-flux.suspend")
        .flat_map(|t| t.targets.clone())
        .collect();
    let parent = frozen.iter().position(|t| t.ends_with("flux-system/cluster-apps"));
    let child = frozen.iter().position(|t| t.ends_with(&format!("{namespace}/{owner}")));
    assert!(parent.is_some() && parent < child, "{frozen:?}\n{}", told(&over));
    assert_eq!(over.closing.verdict, Verdict::Fixed, "{}", told(&over));
    let after = scene
        .simulator
        .object("kustomize.toolkit.fluxcd.io", "kustomizations", namespace, owner)
        .unwrap();
    assert_eq!(
        after["spec"]["suspend"],
        json!(false),
        "false is not absent: the prior state is restored"
    );
}

#[tokio::test]
async fn a_missing_csi_controller_stops_before_anything_is_deleted() {
    let scene = Scene::new(Incident::Playbook);
    assert!(scene.simulator.remove(
        "apps",
        "deployments",
        "rook-ceph",
        "csi-rbdplugin-provisioner"
    ));
    let over = scene.run(&["evidence=waived"]).await;
    assert!(!matches!(over.closing.verdict, Verdict::Fixed), "{}", told(&over));
    assert_eq!(scene.simulator.mutations(), vec![]);
}

#[tokio::test]
async fn a_cluster_that_refuses_is_named_and_flux_is_given_back() {
    for (verb, part) in [("delete", "replicationsources"), ("patch", "deployments")] {
        let scene = Scene::new(Incident::Playbook);
        let before = scene.suspended();
        scene.simulator.fault(Fault::status(403).on(verb).at(part));
        let over = scene.run(&[]).await;
        assert!(!matches!(over.closing.verdict, Verdict::Fixed), "{verb} {part}: {}", told(&over));
        assert_eq!(scene.suspended(), before, "{verb} {part}");
        assert_eq!(scene.marked(), Vec::<String>::new(), "{verb} {part}");
    }
}

#[tokio::test]
async fn a_refused_read_is_said_before_anything_is_changed() {
    for part in
        ["persistentvolumeclaims", "replicationsources", "kustomizations", "/log", "deployments"]
    {
        let scene = Scene::new(Incident::Playbook);
        scene.simulator.fault(Fault::status(403).at(part));
        let over = scene.run(&[]).await;
        assert!(
            !matches!(over.closing.verdict, Verdict::Fixed | Verdict::NothingToDo),
            "{part}: {}",
            told(&over)
        );
        assert_eq!(
            scene
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
async fn credentials_that_are_refused_are_said_at_once() {
    let scene = Scene::new(Incident::Playbook);
    scene.simulator.fault(Fault::status(401));
    let Err(failed) = ClusterSession::simulated(scene.simulator.clone()).await else {
        panic!("a cluster that refuses everybody greeted us")
    };
    assert!(failed.to_string().contains("credentials"), "{failed}");
}

#[tokio::test]
async fn what_the_cluster_does_not_have_is_named_before_anything_is_changed() {
    let scene = Scene::new(Incident::Playbook);
    scene.simulator.fault(Fault::status(404).at("/apis/volsync.backube"));
    let over = scene.run(&["evidence=waived"]).await;
    assert!(
        !matches!(over.closing.verdict, Verdict::Fixed | Verdict::NothingToDo),
        "{}",
        told(&over)
    );
    assert!(told(&over).contains("VolSync"), "{}", told(&over));
    assert_eq!(scene.simulator.mutations(), vec![]);
}

#[tokio::test]
async fn answers_that_make_no_sense_change_nothing() {
    for part in [
        "persistentvolumeclaims",
        "replicationsources",
        "kustomizations",
        "/apis/volsync.backube",
        "leases",
    ] {
        let scene = Scene::new(Incident::Playbook);
        scene.simulator.fault(Fault::garbage().on("get").at(part));
        scene.simulator.fault(Fault::garbage().on("list").at(part));
        let over = scene.run(&[]).await;
        assert!(
            !matches!(over.closing.verdict, Verdict::Fixed | Verdict::NothingToDo),
            "{part}: {}",
            told(&over)
        );
        assert_eq!(scene.simulator.mutations(), vec![], "{part}");
    }
}

#[tokio::test]
async fn each_verb_that_is_refused_is_said_with_whose_word_it_is() {
    for verb in ["get", "list", "patch", "delete"] {
        let scene = Scene::new(Incident::Playbook);
        let before = scene.suspended();
        // The API server's own doors stay open: discovery is for everybody.
        for part in ["/namespaces/media/", "/namespaces/rook-ceph/"] {
            scene.simulator.fault(Fault::status(403).on(verb).at(part));
        }
        let over = scene.run(&[]).await;
        // Deletions that one namespace refuses leave the others': mended, and said.
        let mended = verb == "delete" && over.closing.verdict == Verdict::Fixed;
        assert!(
            mended || !matches!(over.closing.verdict, Verdict::Fixed | Verdict::NothingToDo),
            "{verb}: {}",
            told(&over)
        );
        assert!(told(&over).contains("RBAC"), "{verb}: {}", told(&over));
        assert_eq!(scene.suspended(), before, "{verb}");
        assert_eq!(scene.marked(), Vec::<String>::new(), "{verb}");
    }
}

#[tokio::test]
async fn a_suspension_that_cannot_be_given_back_is_said_loudly() {
    let scene = Scene::new(Incident::Playbook);
    // Each suspend goes through; from the deletion on, nothing of Flux can be written.
    let person = AtDeletion(Box::new({
        let simulator = scene.simulator.clone();
        move || simulator.fault(Fault::status(500).on("patch").at("toolkit.fluxcd.io"))
    }));
    let over = scene.watched(Mode::Live, &[], Box::new(person)).await;
    assert_eq!(over.closing.verdict, Verdict::ActionRequired, "{}", told(&over));
    assert_eq!(over.closing.open.len(), scene.marked().len());
    assert!(told(&over).contains("flux resume"), "{}", told(&over));
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_reading() {
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
            let scene = Scene::new(Incident::Playbook);
            let before = scene.suspended();
            scene.simulator.fault(fault.clone().on(verb).at(part).nth(1));
            let over = scene.run(&[]).await;
            assert_eq!(scene.suspended(), before, "{fault:?} {verb} {part}: {}", told(&over));
            assert_eq!(scene.marked(), Vec::<String>::new(), "{fault:?} {verb} {part}");
            assert_ne!(over.closing.verdict, Verdict::ActionRequired);
            let restarts = scene
                .simulator
                .mutations()
                .into_iter()
                .filter(|m| m.applied && m.uri.contains("deployments"))
                .count();
            assert!(restarts <= 1, "{fault:?} {verb} {part}: restarted {restarts} times");
        }
    }
}

/// Has what it is about to send get lost on the way back, and so many looks after it.
struct AtLease(Simulator, usize);

impl Observer for AtLease {
    fn on_start(&mut self, _: &Effect) {}
    fn on_entry(&mut self, entry: &Entry) {
        if let Entry::Opened(opened) = entry
            && let Effect::Write(Write::AcquireLease(_)) = opened.effect
        {
            self.0.fault(Fault::dropped().on("create").at("/leases").first(1).after_applying());
            self.0.fault(Fault::dropped().on("get").at("/leases/").first(self.1));
        }
    }
    fn ask(&mut self, _: &str) -> futures::future::BoxFuture<'static, Option<bool>> {
        Box::pin(async { None })
    }
}

/// The Lease was made and nobody heard of it: it is looked for, and given back or said.
#[tokio::test]
async fn a_lease_that_was_taken_without_an_answer_is_not_forgotten() {
    for (silent, verdict) in
        [(6, Verdict::Failed(salve_core::outcome::Fault::Cluster)), (200, Verdict::ActionRequired)]
    {
        let scene = Scene::new(Incident::Playbook);
        let over = scene
            .watched(Mode::Live, &[], Box::new(AtLease(scene.simulator.clone(), silent)))
            .await;
        let left =
            scene.simulator.object("coordination.k8s.io", "leases", "default", "salve").is_some();
        let told = serde_json::to_string(&over.report).unwrap();
        assert_eq!(over.closing.verdict, verdict, "{silent}: {told}");
        assert_eq!(left, verdict == Verdict::ActionRequired, "{silent}: {told}");
        let said = told.contains("may still hold the cluster")
            && told.contains("kubectl delete lease salve -n default");
        assert_eq!(left, said, "{silent}: {told}");
        assert_eq!(scene.marked(), Vec::<String>::new());
    }
}
