//! A plan that was approved binds the run: the same is done without waiting twice, anything else is stopped before it is sent.

use salve::arguments::GuestOptions;
use salve::cluster::ClusterSession;
use salve::guest::ResolvedGuest;
use salve::plans::Plan;
use salve::session::{FinishedRun, PreparedRun};
use salve_core::journal::{Entry, Origin};
use salve_core::report::Verdict;
use salve_run::{Mode, NoObserver, RunFile};
use salve_simulator::{Fault, Incident, Simulator};
use salve_tests::canary;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

const VOLSYNC: &str = "volsync.backube";
const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";

/// A cluster with a plan for it.
struct Planned {
    simulator: Simulator,
    runs: tempfile::TempDir,
    terms: GuestOptions,
    file: PathBuf,
    id: String,
}

impl Planned {
    async fn new() -> Self {
        let terms = GuestOptions {
            config: vec!["settle=10".into(), "restore-wait=10".into()],
            ..GuestOptions::default()
        };
        let (simulator, runs) = (Simulator::new(Incident::Playbook), tempfile::tempdir().unwrap());
        canary::plant(&simulator);
        let ready =
            PreparedRun::prepare(ResolvedGuest::find("volsync-unlock", &terms).unwrap(), &terms)
                .await
                .unwrap();
        let open = ClusterSession::simulated(simulator.clone()).await.unwrap();
        let plan =
            ready.run(Mode::Plan, &open, Some(runs.path()), Box::new(NoObserver)).await.unwrap();
        assert_eq!(plan.closing.verdict, Verdict::Planned, "{}", told(&plan));
        canary::listen("the plan", &told(&plan)).unwrap();
        canary::listen_below(runs.path()).unwrap();
        assert_eq!(simulator.mutations(), vec![], "a plan sends nothing that changes anything");
        Self { simulator, runs, terms, file: plan.file.unwrap(), id: plan.report.run }
    }

    fn plan(&self) -> Plan {
        Plan::open(self.runs.path(), &self.id).unwrap()
    }

    /// The run of the plan, on the cluster as it is after `meanwhile`.
    async fn run(&self, meanwhile: impl FnOnce(&Simulator)) -> (FinishedRun, Simulator) {
        let simulator = self.simulator.fork();
        meanwhile(&simulator);
        let plan = self.plan();
        let ready = PreparedRun::prepare(plan.chosen().unwrap(), &self.terms)
            .await
            .unwrap()
            .under(plan)
            .unwrap();
        let open = ClusterSession::simulated(simulator.clone()).await.unwrap();
        (
            ready
                .run(Mode::Live, &open, Some(self.runs.path()), Box::new(NoObserver))
                .await
                .unwrap(),
            simulator,
        )
    }

    /// The same, where it has to be stopped. Says why, and which classes of touches were sent.
    async fn stopped(&self, meanwhile: impl FnOnce(&Simulator)) -> (String, Vec<&'static str>) {
        let (over, simulator) = self.run(meanwhile).await;
        assert_eq!(
            (over.closing.verdict, over.closing.exit_code()),
            (Verdict::Denied, 3),
            "{}",
            told(&over)
        );
        let marked = simulator
            .objects(KUSTOMIZE, "kustomizations", None)
            .into_iter()
            .filter(|o| o["metadata"]["annotations"]["salve.dev/run"].is_string());
        assert_eq!(marked.count(), 0, "what was suspended is given back: {}", told(&over));
        let mut sent: Vec<_> = over
            .report
            .effects
            .iter()
            .filter(|told| told.origin == Origin::Guest)
            .map(|told| told.effect)
            .collect();
        sent.dedup();
        let paths: Vec<_> = simulator.mutations().into_iter().map(|m| m.uri).collect();
        for (class, path) in [
            ("delete-replicationsources.delete", "/replicationsources/"),
            ("restart-deployment.restart", "/deployments/"),
        ] {
            assert_eq!(
                sent.contains(&class),
                paths.iter().any(|uri| uri.contains(path)),
                "{class}: {paths:?}"
            );
        }
        (over.report.summary, sent)
    }
}

fn told(over: &FinishedRun) -> String {
    serde_json::to_string_pretty(&over.report).unwrap()
}

fn entries(over: &FinishedRun) -> Vec<Entry> {
    RunFile::read(over.file.as_ref().unwrap()).unwrap()
}

/// How long the run had lasted when it first sent anything, in milliseconds.
fn first_sent(over: &FinishedRun) -> u64 {
    let entries = entries(over);
    let began = entries[0].header().unwrap().at;
    entries.iter().find_map(Entry::opened).unwrap().at - began
}

fn from_plan(over: &FinishedRun) -> usize {
    entries(over)
        .iter()
        .filter(|entry| matches!(entry, Entry::Done(done) if done.from_plan.is_some()))
        .count()
}

#[tokio::test]
async fn where_the_cluster_cannot_be_told_its_plan_is_not_carried_out() {
    let planned = Planned::new().await;
    let header = planned.plan().header().clone();
    assert!(
        ClusterSession::simulated(planned.simulator.clone())
            .await
            .unwrap()
            .is_that_of(&header)
            .is_ok()
    );
    planned.simulator.fault(Fault::status(403).on("get").at("/namespaces/kube-system"));
    let refused =
        ClusterSession::simulated(planned.simulator.clone()).await.unwrap().is_that_of(&header);
    assert!(refused.is_err_and(|failed| failed.to_string().contains("kube-system")));
}

#[tokio::test]
async fn what_is_as_it_was_is_done_and_evidence_is_not_waited_for_twice() {
    let planned = Planned::new().await;
    let (over, _) = planned.run(|_| {}).await;
    assert_eq!(over.closing.verdict, Verdict::Fixed, "{}", told(&over));
    assert_eq!(over.report.plan.as_deref(), Some(planned.id.as_str()));
    assert!(from_plan(&over) > 0);
    // The plan had to watch the logs over time; the run begins with what it saw.
    let plan = RunFile::read(&planned.file).unwrap();
    let waited = plan
        .iter()
        .find_map(|entry| if let Entry::Planned(done) = entry { Some(done.at) } else { None })
        .unwrap()
        - plan[0].header().unwrap().at;
    assert!(waited > 0 && first_sent(&over) < waited, "{waited} {}", first_sent(&over));
}

#[tokio::test]
async fn the_evidence_of_an_old_plan_is_looked_at_anew() {
    let planned = Planned::new().await;
    let (over, _) =
        planned.run(|simulator| simulator.clock().advance(Duration::from_secs(16 * 60))).await;
    assert_eq!(from_plan(&over), 0, "{}", told(&over));
    assert!(
        planned
            .plan()
            .fresh(planned.plan().header().at + 16 * 60 * 1000)
            .unwrap_err()
            .contains("16 min old")
    );
    assert!(planned.plan().fresh(planned.plan().header().at - 1).unwrap_err().contains("future"));
}

#[tokio::test]
async fn another_source_stops_before_anything_is_deleted() {
    let planned = Planned::new().await;
    let (why, sent) = planned
        .stopped(|s| {
            let mut orphan = s.object(VOLSYNC, "replicationsources", "media", "sonarr").unwrap();
            let was = &orphan["metadata"];
            orphan["metadata"] = json!({"namespace": "media", "name": "younger", "creationTimestamp": was["creationTimestamp"], "labels": was["labels"]});
            assert!(s.insert(orphan).unwrap());
        })
        .await;
    assert!(why.contains("1 ReplicationSource appeared (media/younger)"), "{why}");
    assert!(!sent.contains(&"delete-replicationsources.delete"), "{sent:?}");
}

#[tokio::test]
async fn a_source_that_was_edited_made_anew_or_is_gone_stops_before_anything_is_deleted() {
    let planned = Planned::new().await;
    let edit = |change: fn(&mut Value)| {
        move |s: &Simulator| {
            assert!(s.edit(VOLSYNC, "replicationsources", "media", "sonarr", change))
        }
    };
    let (edited, sent) =
        planned.stopped(edit(|o| o["spec"]["trigger"] = json!({"schedule": "0 1 * * *"}))).await;
    assert!(
        edited.contains("1 ReplicationSource changed (media/sonarr)")
            && !sent.contains(&"delete-replicationsources.delete"),
        "{edited} {sent:?}"
    );
    let (anew, sent) = planned
        .stopped(|s| {
            let mut again = s.object(VOLSYNC, "replicationsources", "media", "sonarr").unwrap();
            assert!(s.remove(VOLSYNC, "replicationsources", "media", "sonarr"));
            let was = &again["metadata"];
            again["metadata"] = json!({"namespace": "media", "name": "sonarr", "creationTimestamp": was["creationTimestamp"], "labels": was["labels"]});
            assert!(s.insert(again).unwrap());
        })
        .await;
    assert!(
        anew.contains("changed (media/sonarr)")
            && !sent.contains(&"delete-replicationsources.delete"),
        "{anew} {sent:?}"
    );
    let (gone, sent) = planned
        .stopped(|s| assert!(s.remove(VOLSYNC, "replicationsources", "media", "sonarr")))
        .await;
    assert!(
        gone.contains("1 ReplicationSource went (media/sonarr)")
            && !sent.contains(&"delete-replicationsources.delete"),
        "{gone} {sent:?}"
    );
}

#[tokio::test]
async fn an_owner_that_was_edited_stops_before_anything_is_suspended() {
    let planned = Planned::new().await;
    let edit = |s: &Simulator| {
        assert!(s.edit(KUSTOMIZE, "kustomizations", "media", "bazarr", |o| o["spec"]["path"] =
            "./elsewhere".into()))
    };
    let (why, _) = planned.stopped(edit).await;
    assert!(why.contains("Kustomization media/bazarr has changed since it was approved"), "{why}");
    let suspended = |s: &Simulator| {
        assert!(s.edit(KUSTOMIZE, "kustomizations", "media", "bazarr", |o| o["spec"]["suspend"] =
            true.into()))
    };
    let (why, _) = planned.stopped(suspended).await;
    assert!(why.contains("bazarr"), "{why}");
}

#[tokio::test]
async fn a_controller_that_was_edited_is_not_restarted() {
    let planned = Planned::new().await;
    let (why, sent) = planned
        .stopped(|s| {
            assert!(s.edit("apps", "deployments", "rook-ceph", "csi-rbdplugin-provisioner", |o| {
                o["spec"]["minReadySeconds"] = 7.into()
            }))
        })
        .await;
    assert!(
        why.contains(
            "Deployment rook-ceph/csi-rbdplugin-provisioner has changed since it was approved"
        ),
        "{why}"
    );
    assert!(
        sent.contains(&"delete-replicationsources.delete"),
        "what came before was as approved: {sent:?}"
    );
}

#[tokio::test]
async fn a_plan_binds_documents_component_configuration_and_cluster() {
    let planned = Planned::new().await;
    let refusal = async |terms: GuestOptions, plan: Plan| {
        let ready =
            PreparedRun::prepare(ResolvedGuest::find("volsync-unlock", &terms).unwrap(), &terms)
                .await
                .unwrap();
        ready.under(plan).err().map(|failed| failed.to_string()).unwrap_or_default()
    };
    let other = GuestOptions {
        config: vec!["settle=11".into(), "restore-wait=10".into()],
        ..GuestOptions::default()
    };
    assert!(
        refusal(other, planned.plan())
            .await
            .contains("the configuration: settle = 11 in place of 10")
    );
    let policy = planned.runs.path().join("policy.yaml");
    let text = "apiVersion: salve.dev/v1alpha1\nkind: Policy\nmetadata: {name: all}\nspec:\n  grants:\n  - {capability: query-objects, kinds: [namespaces]}\n";
    std::fs::write(&policy, text).unwrap();
    let other = GuestOptions {
        policy: Some(policy),
        config: planned.terms.config.clone(),
        ..GuestOptions::default()
    };
    assert!(refusal(other, planned.plan()).await.contains("policy.yaml is new"));

    let mut chosen = planned.plan().chosen().unwrap();
    chosen.digest = "0".repeat(64);
    let configuration = planned.plan().header().configuration.clone();
    assert!(
        planned
            .plan()
            .binds(&chosen, &configuration)
            .unwrap_err()
            .to_string()
            .contains("the component: sha256:000")
    );
    chosen = planned.plan().chosen().unwrap();
    assert!(planned.plan().binds(&chosen, &configuration).is_ok());
    chosen.documents.clear();
    assert!(
        planned
            .plan()
            .binds(&chosen, &configuration)
            .unwrap_err()
            .to_string()
            .contains("was not given")
    );

    let mut open = ClusterSession::simulated(planned.simulator.fork()).await.unwrap();
    assert!(open.is_that_of(planned.plan().header()).is_ok());
    open.identity.uid = Some("another".into());
    assert!(
        open.is_that_of(planned.plan().header())
            .unwrap_err()
            .to_string()
            .contains("another cluster")
    );
}

#[tokio::test]
async fn a_strangers_plan_binds_and_vouches_for_nothing() {
    let planned = Planned::new().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("plan.jsonl");
    std::fs::copy(&planned.file, &copy).unwrap();
    let open = || Plan::open(planned.runs.path(), &copy.display().to_string()).unwrap();
    assert!(open().chosen().err().unwrap().to_string().contains("name its guest"));
    assert!(open().fresh(open().header().at).unwrap_err().contains("own folder"));
    let ready = PreparedRun::prepare(
        ResolvedGuest::find("volsync-unlock", &planned.terms).unwrap(),
        &planned.terms,
    )
    .await
    .unwrap()
    .under(open())
    .unwrap();
    let cluster = ClusterSession::simulated(planned.simulator.fork()).await.unwrap();
    let over = ready
        .run(Mode::Live, &cluster, Some(planned.runs.path()), Box::new(NoObserver))
        .await
        .unwrap();
    assert_eq!(from_plan(&over), 0, "its evidence is nobody's");
    assert_eq!(over.report.plan.as_deref(), Some(planned.id.as_str()), "it binds all the same");
}

#[tokio::test]
async fn only_a_whole_plan_can_be_approved() {
    let planned = Planned::new().await;
    let refusal = |path: &std::path::Path| {
        Plan::open(planned.runs.path(), &path.display().to_string()).err().unwrap().to_string()
    };
    let torn = planned.runs.path().join("torn.jsonl");
    let whole = std::fs::read_to_string(&planned.file).unwrap();
    let lines: Vec<_> = whole.lines().collect();
    std::fs::write(&torn, format!("{}\n", lines[..lines.len() - 1].join("\n"))).unwrap();
    assert!(refusal(&torn).contains("no end"), "{}", refusal(&torn));
    std::fs::write(&torn, whole.replacen("sonarr", "plexxx", 1)).unwrap();
    assert!(refusal(&torn).contains("line"), "{}", refusal(&torn));
    let (over, _) = planned.run(|_| {}).await;
    assert!(refusal(over.file.as_ref().unwrap()).contains("a plan is wanted"));
}

#[tokio::test]
async fn a_plans_lines_say_what_is_known_of_each_object() {
    let planned = Planned::new().await;
    let report = salve_core::report::Report::of(&RunFile::read(&planned.file).unwrap()).unwrap();
    let about = |effect: &str, target: &str| {
        let all =
            report.effects.iter().filter(|told| told.effect == effect).flat_map(|told| &told.about);
        all.clone()
            .find(|about| about.target == target)
            .unwrap_or_else(|| panic!("{effect} {target}: {:?}", all.collect::<Vec<_>>()))
            .clone()
    };
    let sonarr = about("delete-replicationsources.delete", "media/sonarr");
    assert_eq!(
        (sonarr.why.as_str(), sonarr.returns.as_deref()),
        ("its claim is gone", Some("nothing re-creates it"))
    );
    assert!(
        sonarr.created.is_some() && sonarr.last_backup.is_some() && sonarr.owner.is_none(),
        "{sonarr:?}"
    );
    let bazarr = about("delete-replicationsources.delete", "media/bazarr");
    assert_eq!(bazarr.owner.as_deref(), Some("Kustomization media/bazarr"));
    assert!(bazarr.returns.unwrap().contains("remove it from Git"));
    let owner = about("suspend-flux.suspend", "kustomization media/bazarr");
    assert_eq!(owner.owner.as_deref(), Some("Kustomization flux-system/cluster-apps"));
    assert!(owner.created.is_some() && !owner.why.is_empty());
    assert!(
        about("restart-deployment.restart", "rook-ceph/csi-rbdplugin-provisioner")
            .created
            .is_some()
    );
    for told in report.effects.iter().filter(|told| told.certainty == Some("exact")) {
        assert_eq!(
            told.about.iter().map(|about| &about.target).collect::<Vec<_>>(),
            told.targets.iter().collect::<Vec<_>>()
        );
    }
    let certainties: Vec<_> =
        report.effects.iter().map(|told| (told.certainty.unwrap(), told.effect)).collect();
    assert!(certainties.contains(&("predicted", "suspend-flux.resume")), "{certainties:?}");
    assert!(
        certainties
            .iter()
            .all(|(certainty, effect)| (*certainty == "predicted")
                == (*effect == "suspend-flux.resume")),
        "{certainties:?}"
    );
}
