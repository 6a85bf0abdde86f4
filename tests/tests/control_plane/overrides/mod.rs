//! `override-fields` on a real API server, for kinds that the host does not know: plan, approval,
//! exact restoration, takeover, crash and recovery, doctor, report, Role, and admission policies.

mod proxy;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proxy::{Proxy, Stop};
use salve_guest_builder::Project;
use salve_tests::control_plane::{Cluster, ControlPlane, User, eventually, kinds};
use salve_tests::salve::{CommandOutput, Salve, program};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(60);

const REMEDIATION: &str = "
apiVersion: salve.dev/v1alpha1
kind: Remediation
metadata: {name: overriding}
spec:
  guest: {path: COMPONENT}
  grants:
  - {capability: query-objects, kinds: [deployments.apps, replicationsources.volsync.backube], namespaces: [media]}
  - capability: override-fields
    kinds: [deployments.apps]
    fields: [spec.replicas, spec.revisionHistoryLimit, spec.minReadySeconds]
    namespaces: [media]
    names: [web]
    max: {overrides: 2}
    APPROVAL
  - capability: override-fields
    kinds: [replicationsources.volsync.backube]
    fields: [spec.restic.pruneIntervalDays]
    namespaces: [media]
";

fn component() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("overriding");
        Project { root: &root, package: "overriding", profile: "release" }
            .component(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests"))
            .expect("the guest builds")
    })
}

struct Environment {
    cluster: Cluster,
    salve: Salve,
    /// The kubeconfig of the ServiceAccount that `salve rbac` generates.
    kubeconfig: PathBuf,
    document: String,
    plane: ControlPlane,
}

impl Environment {
    async fn new() -> Result<Self> {
        let plane = ControlPlane::start().await?;
        let cluster = plane.cluster(User::Administrator).await?;
        for document in objects() {
            cluster.create(&document).await?;
        }
        let document = write_document(plane.folder(), "remediation.yaml", "")?;
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
        let admin = Salve::new(&plane.kubeconfig(User::Administrator), plane.folder(), &cache)?;
        let arguments = [&document, "--name", "overriding", "--output", "human"];
        let role = admin.run("rbac", &arguments).await?;
        ensure!(role.code == Some(0), "{role}");
        let kubeconfig = plane.service_account("salve", "overriding", &role.stdout).await?;
        let salve = admin.with_kubeconfig(&kubeconfig);
        Ok(Self { cluster, salve, kubeconfig, document, plane })
    }

    async fn run(&self, configuration: &[&str]) -> Result<CommandOutput> {
        self.salve.run("run", &self.arguments(configuration)).await
    }

    fn arguments<'a>(&'a self, configuration: &[&'a str]) -> Vec<&'a str> {
        let keys = configuration.iter().flat_map(|key| ["--config", *key]);
        [self.document.as_str()].into_iter().chain(keys).collect()
    }

    async fn web(&self) -> Result<Value> {
        self.cluster.get(&kinds::DEPLOYMENTS, "media", "web").await
    }

    /// Looks for leftovers of the kind, or of those that the run files name.
    async fn doctor(&self, kind: Option<&str>) -> Result<CommandOutput> {
        let doctor = self.salve.with_kubeconfig(&self.plane.kubeconfig(User::Administrator));
        let runs = self.salve.runs().display().to_string();
        let arguments = kind.map_or(["--runs", &runs], |kind| ["--kind", kind]);
        doctor.run("doctor", &arguments).await
    }

    /// Waits until the run has changed the Deployment.
    async fn wait_until_overridden(&self) -> Result<()> {
        eventually("the Deployment is changed by the run", TIMEOUT, async || {
            let web = self.web().await?;
            ensure!(is_marked(&web), "no annotation: {}", web["metadata"]);
            Ok(())
        })
        .await
    }
}

/// A Deployment with an explicit, a defaulted, and an omitted field, and a custom resource.
fn objects() -> Vec<Value> {
    let labels = json!({"app": "web"});
    let container = json!({"name": "web", "image": "example.com/web"});
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "media"}}),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "media"},
            "spec": {
                "replicas": 2, "minReadySeconds": 5,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "other", "namespace": "media"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "other"}},
                "template": {
                    "metadata": {"labels": {"app": "other"}},
                    "spec": {"containers": [container]},
                },
            },
        }),
        json!({
            "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
            "metadata": {"name": "data", "namespace": "media"},
            "spec": {"sourcePVC": "data", "restic": {"repository": "backup", "copyMethod": "Snapshot"}},
        }),
    ]
}

fn write_document(folder: &Path, name: &str, approval: &str) -> Result<String> {
    let file = folder.join(name);
    let text = REMEDIATION
        .replace("COMPONENT", &component().display().to_string())
        .replace("APPROVAL", approval);
    std::fs::write(&file, text)?;
    Ok(file.display().to_string())
}

fn is_marked(object: &Value) -> bool {
    object["metadata"]["annotations"].to_string().contains("salve.dev")
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn any_integer_field_is_overridden_and_restored_as_the_grant_allows() -> Result<()> {
    let env = Environment::new().await?;
    each_previous_value_is_restored(&env).await?;
    a_field_without_a_grant_is_denied(&env).await?;
    a_plan_is_shown_bound_and_refused_if_stale(&env).await?;
    approval_is_required_if_the_grant_says_so(&env).await?;
    a_person_who_takes_over_wins(&env).await?;
    the_credential_allows_only_the_granted_fields(&env).await
}

async fn each_previous_value_is_restored(env: &Environment) -> Result<()> {
    let source = "kind=replicationsources.volsync.backube";
    let cases: [(&str, &[&str], &str); 6] = [
        ("a value", &["field=spec.replicas", "value=0"], "spec.replicas was 0"),
        (
            "a default",
            &["field=spec.revisionHistoryLimit", "value=3"],
            "spec.revisionHistoryLimit was 3",
        ),
        (
            "set to a 0 that the API server leaves out",
            &["field=spec.minReadySeconds", "value=0"],
            "spec.minReadySeconds was absent",
        ),
        (
            "absent",
            &[source, "object=media/data", "field=spec.restic.pruneIntervalDays", "value=9"],
            "spec.restic.pruneIntervalDays was 9",
        ),
        (
            "absent, set to 0",
            &[source, "object=media/data", "field=spec.restic.pruneIntervalDays", "value=0"],
            "spec.restic.pruneIntervalDays was 0",
        ),
        ("left to the host", &["value=1", "forget=true"], "spec.replicas was 1"),
    ];
    for (what, configuration, expected) in cases {
        run_and_compare(env, what, configuration, expected).await?;
    }
    let none = json!({"spec": {"minReadySeconds": 0}});
    env.cluster.merge(&kinds::DEPLOYMENTS, "media", "web", &none).await?;
    let configuration = ["field=spec.minReadySeconds", "value=7"];
    run_and_compare(env, "a left-out 0", &configuration, "spec.minReadySeconds was 7").await?;
    let output = env.run(&["value=2"]).await?;
    let summary = output.ensure_verdict(0, "nothing-to-do")?.report["summary"].to_string();
    ensure!(summary.contains("has the value already"), "{summary}");
    Ok(())
}

/// Runs the guest, and checks that the objects are as before.
async fn run_and_compare(
    env: &Environment,
    what: &str,
    configuration: &[&str],
    expected: &str,
) -> Result<()> {
    let before = specs(env).await?;
    let output = env.run(configuration).await?;
    output.ensure_verdict(0, "nothing-to-do").with_context(|| what.to_owned())?;
    let summary = output.report["summary"].to_string();
    ensure!(summary.contains(expected), "{what}: {summary}");
    assert_eq!(specs(env).await?, before, "{what}");
    let doctor = env.doctor(Some("deployments.apps")).await?;
    ensure!(doctor.code == Some(0), "{what}: {doctor}");
    Ok(())
}

/// Returns the specs and annotations of both objects.
async fn specs(env: &Environment) -> Result<Vec<Value>> {
    let objects =
        [env.web().await?, env.cluster.get(&kinds::REPLICATION_SOURCES, "media", "data").await?];
    let parts = |object: &Value| {
        let mut annotations = object["metadata"]["annotations"].clone();
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.remove("deployment.kubernetes.io/revision");
        }
        let annotations = annotations.as_object().filter(|all| !all.is_empty()).cloned();
        json!({"spec": object["spec"], "annotations": annotations})
    };
    Ok(objects.iter().map(parts).collect())
}

async fn a_field_without_a_grant_is_denied(env: &Environment) -> Result<()> {
    for (configuration, expected) in [
        (["field=spec.progressDeadlineSeconds"], "for the field spec.progressDeadlineSeconds"),
        (["object=media/other"], "names: [other], fields: [spec.replicas]"),
    ] {
        let since = env.plane.audit().entries()?.len();
        let output = env.run(&configuration).await?;
        ensure!(output.code == Some(3), "{output}");
        ensure!(output.report.to_string().contains(expected), "{expected}: {output}");
        let requests = env.plane.audit().entries()?.split_off(since);
        let changes = requests
            .iter()
            .filter(|entry| entry.user.ends_with(":overriding") && entry.verb == "patch");
        assert_eq!(changes.count(), 0, "{configuration:?}");
    }
    Ok(())
}

async fn a_plan_is_shown_bound_and_refused_if_stale(env: &Environment) -> Result<()> {
    let scale = async |replicas: u32| {
        let patch = json!({"spec": {"replicas": replicas}});
        env.cluster.merge(&kinds::DEPLOYMENTS, "media", "web", &patch).await
    };
    for stale in [false, true] {
        let plan = env.salve.run("plan", &env.arguments(&["value=0"])).await?;
        let text = plan.ensure_verdict(0, "planned")?.report.to_string();
        ensure!(
            text.contains("override-fields.set") && text.contains("override-fields.restore"),
            "{text}"
        );
        ensure!(text.contains(r#"kubectl patch deployments.apps web -n media"#), "{text}");
        assert_eq!(env.web().await?["spec"]["replicas"], 2, "a plan changes nothing");
        let id = plan.report["run"].as_str().context("a plan has an ID")?;
        if stale {
            scale(4).await?;
        }
        let since = env.plane.audit().entries()?.len();
        let output = env.salve.run("run", &["--plan", id]).await?;
        if stale {
            output.ensure_verdict(9, "stale-plan")?;
            let requests = env.plane.audit().entries()?.split_off(since);
            let patched = requests
                .iter()
                .any(|entry| entry.user.ends_with(":overriding") && entry.verb == "patch");
            ensure!(!patched, "a stale plan was applied: {output}");
            assert_eq!(env.web().await?["spec"]["replicas"], 4);
            scale(2).await?;
        } else {
            output.ensure_verdict(0, "nothing-to-do")?;
            assert_eq!(env.web().await?["spec"]["replicas"], 2);
            let run = output.report["run"].as_str().context("a run has an ID")?;
            let report = report(env, run).await?;
            ensure!(
                report.contains("override-fields.set")
                    && report.contains("override-fields.restore"),
                "{report}"
            );
        }
    }
    Ok(())
}

async fn report(env: &Environment, run: &str) -> Result<String> {
    let mut command = tokio::process::Command::new(program()?);
    let output = command.args(["report", run, "--runs"]).arg(env.salve.runs()).output().await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn approval_is_required_if_the_grant_says_so(env: &Environment) -> Result<()> {
    let document = write_document(env.plane.folder(), "approval.yaml", "approval: required")?;
    let output = env.salve.run("run", &[&document, "--config", "value=0"]).await?;
    output.ensure_verdict(8, "needs-approval")?;
    assert_eq!(env.web().await?["spec"]["replicas"], 2);
    let plan = env.salve.run("plan", &[&document, "--config", "value=0"]).await?;
    let id = plan.ensure_verdict(0, "planned")?.report["run"].as_str().context("no ID")?;
    env.salve.run("run", &["--plan", id]).await?.ensure_verdict(0, "nothing-to-do")?;
    Ok(())
}

/// A value that a person sets meanwhile is kept, and so is the same value set again.
async fn a_person_who_takes_over_wins(env: &Environment) -> Result<()> {
    for (scaled, expected) in
        [("5", "set spec.replicas to 5"), ("0", "set spec.replicas to 0 again")]
    {
        let running = env.salve.start("run", &env.arguments(&["value=0", "hold=4000"]))?;
        env.wait_until_overridden().await?;
        // Field ownership only changes with the value, or by server-side apply.
        if scaled == "0" {
            let apply = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: \
                         media}, spec: {replicas: 0}}";
            let kubeconfig = env.plane.kubeconfig(User::Administrator);
            let arguments =
                ["apply", "--server-side", "--force-conflicts", "--field-manager=alice", "-f", "-"];
            env.plane.kubectl_as(&kubeconfig, &arguments, apply).await?;
            let give_up = json!({"metadata": {"managedFields": without_salve(&env.web().await?)}});
            env.cluster.merge(&kinds::DEPLOYMENTS, "media", "web", &give_up).await?;
        } else {
            env.plane.kubectl(&["scale", "-n=media", "deployment/web", "--replicas=5"]).await?;
        }
        let output = running.wait().await?;
        let report = &output.ensure_verdict(0, "nothing-to-do")?.report;
        let text = report.to_string();
        let effects = report["effects"].as_array().context("no effects")?;
        let restored = effects.iter().find(|effect| effect["effect"] == "override-fields.restore");
        let restored = restored.with_context(|| format!("no restore: {text}"))?;
        assert_eq!(restored["outcome"]["status"], "taken-over", "{text}");
        let why = restored["outcome"]["message"].as_str().unwrap_or_default();
        ensure!(why.contains(expected), "{expected}: {why}");
        assert_eq!(restored["commands"], json!([]), "they would undo what the person did");
        let web = env.web().await?;
        assert_eq!(web["spec"]["replicas"].to_string(), scaled, "{text}");
        ensure!(!is_marked(&web), "{}", web["metadata"]);
        env.plane.kubectl(&["scale", "-n=media", "deployment/web", "--replicas=2"]).await?;
    }
    Ok(())
}

/// Returns the managedFields without the ownership of `spec.replicas` by the run.
fn without_salve(object: &Value) -> Vec<Value> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let owns = |entry: &Value| {
        entry["manager"] == "salve" && entry.pointer("/fieldsV1/f:spec/f:replicas").is_some()
    };
    entries.into_iter().filter(|entry| !owns(entry)).collect()
}

async fn the_credential_allows_only_the_granted_fields(env: &Environment) -> Result<()> {
    let kubectl = async |object: &str, patch: &str| {
        let arguments = ["patch", object, "-n=media", "--type=merge", "-p", patch];
        env.plane.kubectl_as(&env.kubeconfig, &arguments, "").await
    };
    for (object, patch, source) in [
        ("deployment/web", r#"{"spec": {"paused": true}}"#, "ValidatingAdmissionPolicy"),
        (
            "deployment/web",
            r#"{"spec": {"progressDeadlineSeconds": 9}}"#,
            "ValidatingAdmissionPolicy",
        ),
        (
            "deployment/web",
            r#"{"metadata": {"annotations": {"previous.salve.dev/spec.paused": "x"}}}"#,
            "ValidatingAdmissionPolicy",
        ),
        ("deployment/web", r#"{"metadata": {"labels": {"a": "b"}}}"#, "ValidatingAdmissionPolicy"),
        ("deployment/other", r#"{"spec": {"replicas": 0}}"#, "forbidden"),
        (
            "replicationsource/data",
            r#"{"spec": {"restic": {"repository": "x"}}}"#,
            "ValidatingAdmissionPolicy",
        ),
        ("configmap/web", r#"{"data": {"a": "b"}}"#, "forbidden"),
    ] {
        let denied = kubectl(object, patch).await;
        let text = denied.unwrap_or_else(|error| format!("{error:#}"));
        ensure!(text.contains(source), "{object} {patch}: {text}");
    }
    for patch in [r#"{"spec": {"replicas": 3}}"#, r#"{"spec": {"replicas": 2}}"#] {
        kubectl("deployment/web", patch).await.context("the granted field")?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn a_run_killed_before_or_after_any_request_is_recovered() -> Result<()> {
    let env = Environment::new().await?;
    let proxy = Proxy::start(&env.kubeconfig).await?;
    let kubeconfig = env.plane.folder().join("proxied.json");
    proxy.write_kubeconfig(&kubeconfig)?;
    let salve = env.salve.with_kubeconfig(&kubeconfig);
    let arguments = env.arguments(&["value=0"]);
    proxy.restart(None);
    salve.run("run", &arguments).await?.ensure_verdict(0, "nothing-to-do")?;
    let requests = proxy.seen();
    ensure!(requests > 10, "only {requests} requests");
    let before = specs(&env).await?;
    let (mut kills, mut overridden) = (0, 0);
    for n in (0..requests).step_by(stride()?) {
        for when in [Stop::Before, Stop::After] {
            let case = format!("killed {when:?} request {n} of {requests}").to_lowercase();
            let files = run_files(&env)?;
            proxy.restart(Some((n, when)));
            let finished = salve.start("run", &arguments)?.kill_on(proxy.stopped()).await?;
            proxy.restart(None);
            if let Some(output) = finished {
                // The number of requests varies a little.
                output.ensure_verdict(0, "nothing-to-do").context(case)?;
                continue;
            }
            kills += 1;
            let changed = env.web().await?["spec"]["replicas"] == 0;
            overridden += usize::from(changed);
            let doctor = env.doctor(None).await?;
            ensure!(
                !changed || (doctor.code == Some(5) && doctor.stdout.contains("override-fields")),
                "{case}: {doctor}"
            );
            let file = run_files(&env)?.into_iter().find(|file| !files.contains(file));
            // Killed before it wrote the header, it has sent nothing that changes the cluster.
            let is_empty =
                |file: &PathBuf| std::fs::metadata(file).is_ok_and(|file| file.len() == 0);
            if let Some(file) = file.filter(|file| !is_empty(file)) {
                let recovered = salve.run("recover", &[&file.display().to_string()]).await?;
                ensure!(
                    recovered.code.is_some_and(|code| [0, 1, 6].contains(&code)),
                    "{case}: {recovered}"
                );
            }
            assert_eq!(specs(&env).await?, before, "{case}");
            let doctor = env.doctor(None).await?;
            ensure!(doctor.code == Some(0), "{case}: {doctor}");
        }
    }
    println!("report: {kills} kills, {overridden} while the field was overridden");
    ensure!(kills > 10 && overridden > 0, "{kills} kills, {overridden} of an override");
    Ok(())
}

/// Returns the stride between the requests at which a run is killed. `SALVE_REQUESTS=1` tries all.
fn stride() -> Result<usize> {
    std::env::var("SALVE_REQUESTS")
        .map_or(Ok(4), |stride| stride.parse())
        .context("SALVE_REQUESTS is not a number")
}

fn run_files(env: &Environment) -> Result<Vec<PathBuf>> {
    let folder = env.salve.runs();
    if !folder.is_dir() {
        return Ok(vec![]);
    }
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}
