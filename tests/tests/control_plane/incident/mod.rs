//! The incident on a real API server with the real Flux: the `salve` binary with a ServiceAccount
//! that has the shipped Role. The audit log of the API server has to match the run file.

mod canaries;
mod conditions;
mod environment;
mod killed;
mod pattern_grants;
mod permission;
mod role;
mod run_audit;
mod undo;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use salve_tests::control_plane::actors::{CephCsiOptions, HelmController, OPERATOR_DEPLOYMENT};
use salve_tests::control_plane::{AuditEntry, User, eventually, fixture, flux, kinds};
use salve_tests::salve::CommandOutput;
use serde_json::{Value, json};

use environment::{Environment, TIMEOUT, guest};
use run_audit::mutations;

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn the_whole_incident_is_fixed_and_nothing_else_is_changed() -> Result<()> {
    let env = Environment::healthy(CephCsiOptions::default()).await?;
    let healthy = env.run_without_writes("check", &[]).await?;
    healthy.ensure_state(0, "healthy")?;
    by_impersonation(&env).await?;
    by_service_account_token(&env).await?;
    env.run_without_writes("run", &[]).await?.ensure_verdict(0, "nothing-to-do")?;
    doctor_finds_leftovers(&env).await?;

    // A user has suspended the owner of a ReplicationSource with a stuck backup.
    env.fixture
        .flux
        .set_suspend(&kinds::KUSTOMIZATIONS, "selfhosted", fixture::OWNER, true)
        .await?;
    env.fixture.start_incident().await?;
    conditions::a_label_prevents_deletion(&env).await?;
    let (flux, sources) = (env.suspend_states().await?, env.sources().await?);
    env.run_without_writes("check", &[]).await?.ensure_state(1, "incident")?;
    // With consent, the ReplicationSource of that owner is deleted as well.
    let plan = env.run_without_writes("plan", &["deleteUnmanaged=true"]).await?;
    plan.ensure_verdict(0, "planned")?;

    let (output, audit) = env.run_plan(&plan).await?;
    println!("the run took {:.1} s", output.elapsed.as_secs_f64());
    output.ensure_verdict(0, "fixed")?;
    audit.ensure_complete()?;
    for effect in
        ["suspend-flux.suspend", "delete-replicationsources.delete", "restart-deployment.restart"]
    {
        let (planned, done) = (targets(&plan, effect), targets(&output, effect));
        ensure!(
            !done.is_empty() && planned == done,
            "{effect}: planned {planned:?}, done {done:?}"
        );
    }
    assert_eq!(env.suspend_states().await?, flux, "Flux changed");
    assert_eq!(env.marked_flux_objects().await?, Vec::<String>::new());
    env.fixture.wait_until_bound(&fixture::PENDING_APPS).await?;
    env.wait_until_apps_run().await?;

    let after = env.sources().await?;
    for (namespace, name) in fixture::ORPHANS {
        ensure!(
            !after.contains_key(&format!("{namespace}/{name}")),
            "the orphan {namespace}/{name} still exists"
        );
    }
    for (namespace, name) in fixture::APPS {
        let source = format!("{namespace}/{name}");
        let (before, now) = (sources.get(&source), after.get(&source));
        match (fixture::STUCK_BACKUPS.contains(&(namespace, name)), namespace) {
            (false, _) => assert_eq!(before, now, "{source} was healthy"),
            (true, "selfhosted") => {
                assert_eq!(now, None, "{source} must not be recreated before its owner is resumed")
            }
            (true, _) => ensure!(now.is_some() && before != now, "{source} was not recreated"),
        }
    }
    let remaining = output.report["remaining"].to_string();
    ensure!(
        remaining.contains("selfhosted/immich was deleted: Flux will recreate it if"),
        "{remaining}"
    );
    doctor_finds_leftovers(&env).await?;
    undo::an_orphan_is_restored(&env, &output).await
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn the_literal_playbook_fixes_the_incident_and_flux_recreates_what_is_in_git() -> Result<()> {
    let env = Environment::healthy(CephCsiOptions {
        deployment: OPERATOR_DEPLOYMENT,
        ..CephCsiOptions::default()
    })
    .await?;
    env.fixture.start_incident().await?;
    let _helm = HelmController::start(&env.plane).await?;
    let release = ("media", "tautulli");
    env.fixture.create_release_orphan(release.0, release.1).await?;
    let (flux, sources) = (env.suspend_states().await?, env.sources().await?);
    let (output, audit) = env.run(&["mode=all"]).await?;
    println!("the run took {:.1} s", output.elapsed.as_secs_f64());
    output.ensure_verdict(0, "fixed")?;
    audit.ensure_complete()?;
    let deletions = audit
        .mutations()
        .iter()
        .filter(|entry| entry.verb == "delete" && entry.resource == "replicationsources")
        .count();
    assert_eq!(deletions, sources.len(), "each source must be deleted once");
    assert_eq!(env.suspend_states().await?, flux, "Flux changed");
    assert_eq!(env.marked_flux_objects().await?, Vec::<String>::new());
    let after = env.sources().await?;
    assert_eq!(after.len(), fixture::APPS.len(), "{after:?}");
    ensure!(
        after.iter().all(|(name, uid)| sources.get(name).is_some_and(|before| before != uid)),
        "a source was not recreated"
    );
    env.fixture.wait_until_bound(&fixture::PENDING_APPS).await?;
    env.wait_until_apps_run().await?;

    let remaining = output.report["remaining"].to_string();
    ensure!(
        remaining.contains(
            "media/tautulli was deleted: Flux will recreate it at the next upgrade of HelmRelease \
             media/tautulli"
        ),
        "{remaining}"
    );

    let requests = env.requests_since(0)?;
    ensure!(
        requests.iter().any(|entry| entry.resource == "pods" && entry.verb == "delete"),
        "the operator would revert an annotation, so pods have to be deleted"
    );
    // Of the three kinds of Flux sources, this cluster has only a GitRepository.
    let unused = ["get", "patch"]
        .into_iter()
        .flat_map(|verb| ["buckets", "ocirepositories"].map(|kind| format!("{verb} {kind}")));
    // Other tests annotate the Deployment of Rook. A pod is only read if the response to its
    // deletion was lost, and nodes only if volumes are attached to them.
    let other_tests = ["patch deployments", "get pods", "list nodes"].map(String::from);
    assert_eq!(
        role::unused(&requests)?,
        unused.chain(other_tests).collect(),
        "the Role grants more than needed"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn flux_is_resumed_however_a_run_is_stopped() -> Result<()> {
    let env = Environment::healthy(CephCsiOptions::default()).await?;
    env.fixture.start_incident().await?;
    let flux = env.suspend_states().await?;

    invalid_credentials_are_reported(&env).await?;
    a_denied_deletion_is_reported(&env).await?;
    assert_eq!(env.suspend_states().await?, flux);
    let declared = fixture::APPS.len();
    for (signals, resource, mode) in [
        (&["INT"][..], "kustomizations", "mode=evidence"),
        (&["TERM"], "replicationsources", "mode=all"),
        (&["INT", "INT"], "replicationsources", "mode=all"),
    ] {
        let output = stop(&env, signals, resource, mode).await?;
        println!(
            "SIG{signals:?}: exited after {:.1} s: {}",
            output.elapsed.as_secs_f64(),
            output.report["summary"]
        );
        assert_eq!(env.suspend_states().await?, flux, "after {signals:?}: {output}");
        assert_eq!(
            env.marked_flux_objects().await?,
            Vec::<String>::new(),
            "after {signals:?}: {output}"
        );
        eventually("Flux has recreated all sources", TIMEOUT, async || {
            let sources = env.sources().await?;
            ensure!(
                fixture::APPS
                    .iter()
                    .all(|(namespace, name)| sources.contains_key(&format!("{namespace}/{name}"))),
                "{} of {declared}",
                sources.len()
            );
            Ok(())
        })
        .await?;
    }

    let since = env.audit_position()?;
    env.plane
        .kubectl(&["delete", "deployment", "csi-rbdplugin-provisioner", "--namespace=rook-ceph"])
        .await?;
    let output = env.run_without_writes("run", &["evidence=waived"]).await?;
    let ensure_no_controller = |output: &CommandOutput| {
        let summary = output.report["summary"].as_str().unwrap_or_default();
        ensure!(
            output.code == Some(10) && summary.contains("no controller Deployment"),
            "{output}"
        );
        Ok(())
    };
    ensure_no_controller(&output)?;
    // Nor does it need VolSync.
    env.plane.kubectl(&["delete", "crd", "replicationsources.volsync.backube"]).await?;
    ensure_no_controller(&env.run_without_writes("run", &["evidence=waived"]).await?)?;
    ensure!(env.audit_position()? > since);
    Ok(())
}

/// Sends signals to a run after its first change of an object of `resource`.
async fn stop(
    env: &Environment,
    signals: &[&str],
    resource: &str,
    mode: &str,
) -> Result<CommandOutput> {
    let since = env.audit_position()?;
    // Slow enough that it cannot finish before the signal arrives.
    let command =
        env.salve.start("run", &guest(&[mode, "deletionBatchSize=1", "deletionIntervalMs=700"]))?;
    eventually("the run changes an object", TIMEOUT, async || {
        let requests = env.requests_since(since)?;
        ensure!(
            mutations(&requests).any(|entry| entry.resource == resource && entry.is_success()),
            "none yet"
        );
        Ok(())
    })
    .await?;
    for signal in signals {
        command.signal(signal).await?;
    }
    let output = command.wait().await?;
    output.ensure_verdict(1, "not-fixed")?;
    let summary = output.report["summary"].as_str().unwrap_or_default();
    ensure!(summary.starts_with("stopped by you"), "{output}");
    let audit = env.audit_run(&output, since)?;
    audit.ensure_complete()?;
    let changes = audit.mutations();
    ensure!(
        changes.iter().all(|entry| entry.resource != "deployments"),
        "the run went on: {output}"
    );
    let suspended = changes.iter().filter(|entry| entry.request["spec"]["suspend"] == true).count();
    ensure!(suspended > 0, "nothing was suspended: {output}");
    if signals.len() > 1 {
        let deleted = changes.iter().filter(|entry| entry.verb == "delete").count();
        ensure!(
            deleted < fixture::APPS.len(),
            "all {deleted} were deleted despite the signals: {output}"
        );
    }
    Ok(output)
}

/// Runs with a ServiceAccount that may not delete: the run reports the denial and resumes Flux.
async fn a_denied_deletion_is_reported(env: &Environment) -> Result<()> {
    let kubeconfig =
        env.plane.service_account("salve", "lesser", &role::without_deletion("lesser")?).await?;
    let sources = env.sources().await?;
    let (output, requests) = env.run_as("system:serviceaccount:salve:lesser", &kubeconfig).await?;
    output.ensure_verdict(4, "failed")?;
    let summary = output.report["summary"].as_str().unwrap_or_default();
    ensure!(
        summary.contains("the cluster's own RBAC")
            && summary.contains("cannot delete resource \"replicationsources\""),
        "{output}"
    );
    let denied: BTreeSet<&str> = requests
        .iter()
        .filter(|entry| entry.code == 403)
        .map(|entry| entry.verb.as_str())
        .collect();
    assert_eq!(denied, BTreeSet::from(["delete"]), "{output}");
    ensure!(mutations(&requests).any(AuditEntry::is_success), "nothing was suspended: {output}");
    ensure!(
        requests.iter().all(|entry| entry.resource != "deployments" || entry.verb != "patch"),
        "the Deployment was restarted: {output}"
    );
    let deletion = output.report["effects"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|effect| effect["effect"] == "delete-replicationsources.delete");
    let outcome =
        deletion.and_then(|effect| effect["outcome"]["message"].as_str()).unwrap_or_default();
    ensure!(
        outcome.starts_with("0 of 7 deleted") && outcome.contains("RBAC"),
        "the report describes the deletion as {outcome:?}"
    );
    assert_eq!(env.sources().await?, sources);
    assert_eq!(env.marked_flux_objects().await?, Vec::<String>::new());
    Ok(())
}

/// Returns the targets of an effect in the report.
fn targets(output: &CommandOutput, effect: &str) -> BTreeSet<String> {
    let effects = output.report["effects"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|reported| reported["effect"] == effect);
    effects
        .flat_map(|reported| reported["targets"].as_array().into_iter().flatten())
        .map(Value::to_string)
        .collect()
}

/// Runs with an invalid token.
async fn invalid_credentials_are_reported(env: &Environment) -> Result<()> {
    let mut kubeconfig: Value =
        serde_json::from_str(&std::fs::read_to_string(env.plane.kubeconfig(User::Administrator))?)?;
    kubeconfig["users"][0]["user"]["token"] = json!("invalid");
    let file = env.plane.folder().join("invalid.kubeconfig");
    std::fs::write(&file, kubeconfig.to_string())?;
    let output = env.salve.with_kubeconfig(&file).run("run", &guest(&[])).await?;
    ensure!(
        output.code == Some(4) && output.stderr.contains("rejected the credentials"),
        "{output}"
    );
    Ok(())
}

/// Checks with `--as`: every request impersonates the ServiceAccount.
async fn by_impersonation(env: &Environment) -> Result<()> {
    let since = env.audit_position()?;
    let mut arguments = guest(&[]);
    arguments.extend(["--as", role::USER]);
    env.salve_as_administrator().run("check", &arguments).await?.ensure_state(0, "healthy")?;
    let requests = env.requests_by(User::Administrator.name(), since)?;
    let ours: Vec<&AuditEntry> =
        requests.iter().filter(|entry| entry.user_agent.starts_with("salve")).collect();
    ensure!(
        !ours.is_empty()
            && ours.iter().all(|entry| entry.impersonated.as_deref() == Some(role::USER)),
        "{ours:#?}"
    );
    Ok(())
}

/// Runs with `--service-account`: the administrator only requests a token. The report shows which
/// enforcement layers apply to the ServiceAccount, and that none but the host applies to the
/// administrator.
async fn by_service_account_token(env: &Environment) -> Result<()> {
    let since = env.audit_position()?;
    let mut arguments = guest(&[]);
    arguments.extend(["--service-account", "salve/volsync-unlock"]);
    let output = env.salve_as_administrator().run("run", &arguments).await?;
    output.ensure_verdict(0, "nothing-to-do")?;
    assert_eq!(output.report["cluster"]["user"], role::USER);
    assert_eq!(
        enforcement(&output),
        [("host", true), ("role", true), ("admission", true)],
        "{output}"
    );
    let requests = env.requests_by(User::Administrator.name(), since)?;
    let ours: Vec<String> = requests
        .iter()
        .filter(|entry| entry.user_agent.starts_with("salve"))
        .map(run_audit::describe)
        .collect();
    ensure!(
        ours.iter().filter(|uri| uri.contains("serviceaccounts/volsync-unlock/token")).count() == 1
            && ours.len() <= 2,
        "the administrator requested more than the version and a token: {ours:#?}"
    );
    ensure!(!env.requests_since(since)?.is_empty(), "the ServiceAccount sent no request");

    // A policy with the right name that applies to no user is detected.
    let policy = "salve-volsync-unlock-patch-helmreleases.helm.toolkit.fluxcd.io";
    for (operation, enforced) in [
        (r#"{"op": "add", "value": {"name": "never", "expression": "false"}"#, false),
        (r#"{"op": "remove""#, true),
    ] {
        let patch = format!(r#"[{operation}, "path": "/spec/matchConditions/1"}}]"#);
        env.plane
            .kubectl(&["patch", "validatingadmissionpolicy", policy, "--type=json", "-p", &patch])
            .await?;
        let output = env.salve_as_administrator().run("run", &arguments).await?;
        assert_eq!(
            enforcement(&output),
            [("host", true), ("role", true), ("admission", enforced)],
            "{output}"
        );
        let admission = &output.report["cluster"]["enforcement"][2];
        let reason = admission["reason"].as_str().unwrap_or_default();
        ensure!(enforced || reason.contains(policy), "{reason}");
    }

    let output = env.salve_as_administrator().run("run", &guest(&[])).await?;
    output.ensure_verdict(0, "nothing-to-do")?;
    assert_eq!(
        enforcement(&output),
        [("host", true), ("role", false), ("admission", false)],
        "{output}"
    );
    ensure!(
        output.report["cluster"]["enforcement"][1]["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("get secrets")),
        "{output}"
    );
    let mut arguments = guest(&[]);
    arguments.extend(["--service-account", "salve/missing"]);
    let output = env.salve_as_administrator().run("check", &arguments).await?;
    ensure!(
        output.code == Some(4)
            && output.stderr.contains("salve/missing")
            && output.stderr.contains("serviceaccounts/token"),
        "{output}"
    );
    Ok(())
}

fn enforcement(output: &CommandOutput) -> Vec<(&str, bool)> {
    let layers = output.report["cluster"]["enforcement"].as_array().into_iter().flatten();
    layers
        .map(|layer| (layer["name"].as_str().unwrap_or_default(), layer["enforced"] == true))
        .collect()
}

/// Runs `salve doctor` without and with an annotation that a crashed run could have left.
async fn doctor_finds_leftovers(env: &Environment) -> Result<()> {
    let doctor = env.salve_as_administrator();
    let output = doctor.run("doctor", &[]).await?;
    ensure!(output.code == Some(0), "{output}");
    let annotation = |run: Value| json!({"metadata": {"annotations": {"salve.dev/run": run}}});
    env.cluster
        .merge(
            &kinds::KUSTOMIZATIONS,
            flux::NAMESPACE,
            fixture::ROOT,
            &annotation(json!("0badcafe")),
        )
        .await?;
    let output = doctor.run("doctor", &["--output", "human"]).await?;
    ensure!(
        output.code == Some(5)
            && output.stdout.contains("by run 0badcafe")
            && output.stdout.contains(fixture::ROOT),
        "{output}"
    );
    // The object is not suspended, so only the annotation has to be removed.
    ensure!(
        output
            .stdout
            .contains("kubectl annotate kustomizations cluster-apps -n flux-system salve.dev/run-")
            && !output.stdout.contains("flux resume"),
        "{output}"
    );
    env.cluster
        .merge(&kinds::KUSTOMIZATIONS, flux::NAMESPACE, fixture::ROOT, &annotation(Value::Null))
        .await?;
    // It reads the whole cluster, which the ServiceAccount of a run may not.
    let output = env.salve.run("doctor", &[]).await?;
    ensure!(output.code == Some(4) && output.stderr.contains("the cluster's own RBAC"), "{output}");
    Ok(())
}
