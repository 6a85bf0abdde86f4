//! The incident on a real API server with the real Flux: the `salve` program under the account that its Role describes.
//! The audit log says what it asked; the run file has to say the same.

mod account;
mod canaries;
mod conditions;
mod fixture;
mod killed;
mod narrow;
mod permission;
mod role;
mod undone;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use salve_tests::control_plane::actors::{BY_OPERATOR, HelmController, Manner};
use salve_tests::control_plane::{Entry, User, eventually, flux, kind, scene};
use salve_tests::salve::Told;
use serde_json::{Value, json};

use account::mutations;
use fixture::{Stage, TIMEOUT, guest};

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn the_whole_incident_is_fixed_and_nothing_else_is_changed() -> Result<()> {
    let stage = Stage::healthy(Manner::default()).await?;
    let healthy = stage.looks("check", &[]).await?;
    healthy.is(0, "nothing-to-do")?;
    as_the_account(&stage).await?;
    by_a_token_of_the_account(&stage).await?;
    stage.looks("run", &[]).await?.is(0, "nothing-to-do")?;
    nothing_is_left(&stage).await?;

    // The house has an owner that a person holds, and it owns a source that hangs.
    stage.scene.flux.suspend(&kind::KUSTOMIZATIONS, "selfhosted", scene::OWNER, true).await?;
    stage.scene.strike().await?;
    conditions::a_label_keeps_its_object(&stage).await?;
    let (flux, sources) = (stage.suspensions().await?, stage.sources().await?);
    stage.looks("check", &[]).await?.is(1, "not-fixed")?;
    let plan = stage.looks("plan", &[]).await?;
    plan.is(0, "planned")?;

    let (told, account) = stage.carry_out(&plan).await?;
    println!("the run took {:.1} s", told.took.as_secs_f64());
    told.is(0, "fixed")?;
    account.is_whole()?;
    for effect in
        ["suspend-flux.suspend", "delete-replicationsources.delete", "restart-deployment.restart"]
    {
        let (planned, done) = (targets(&plan, effect), targets(&told, effect));
        ensure!(
            !done.is_empty() && planned == done,
            "{effect}: planned was {planned:?}, done was {done:?}"
        );
    }
    assert_eq!(stage.suspensions().await?, flux, "Flux is as it was");
    assert_eq!(stage.marked().await?, Vec::<String>::new());
    stage.scene.until_bound(&scene::STUCK).await?;
    stage.until_apps_run().await?;

    let after = stage.sources().await?;
    for (namespace, name) in scene::ORPHANS {
        ensure!(
            !after.contains_key(&format!("{namespace}/{name}")),
            "the orphan {namespace}/{name} is still there"
        );
    }
    for (namespace, name) in scene::APPS {
        let place = format!("{namespace}/{name}");
        let (before, now) = (sources.get(&place), after.get(&place));
        match (scene::WEDGED.contains(&(namespace, name)), namespace) {
            (false, _) => assert_eq!(before, now, "{place} was healthy"),
            (true, "selfhosted") => assert_eq!(
                now, None,
                "{place} comes back when its owner is resumed, and not before"
            ),
            (true, _) => ensure!(now.is_some() && before != now, "{place} was not made anew"),
        }
    }
    let left = told.report["left"].to_string();
    ensure!(left.contains("selfhosted/immich stays away until a person resumes"), "{left}");
    nothing_is_left(&stage).await?;
    undone::an_orphan_comes_back(&stage, &told).await
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn the_literal_playbook_is_played_and_flux_brings_back_what_git_declares() -> Result<()> {
    let stage = Stage::healthy(Manner { deployment: BY_OPERATOR, ..Manner::default() }).await?;
    stage.scene.strike().await?;
    let _helm = HelmController::start(&stage.plane).await?;
    let release = ("media", "tautulli");
    stage.scene.orphan_of_a_release(release.0, release.1).await?;
    let (flux, sources) = (stage.suspensions().await?, stage.sources().await?);
    let (told, account) = stage.run(&["mode=all"]).await?;
    println!("the literal run took {:.1} s", told.took.as_secs_f64());
    told.is(0, "fixed")?;
    account.is_whole()?;
    let deletions = account
        .mutations()
        .iter()
        .filter(|entry| entry.verb == "delete" && entry.resource == "replicationsources")
        .count();
    assert_eq!(deletions, sources.len(), "all of them, and each once");
    assert_eq!(stage.suspensions().await?, flux, "Flux is as it was");
    assert_eq!(stage.marked().await?, Vec::<String>::new());
    let after = stage.sources().await?;
    assert_eq!(after.len(), scene::APPS.len(), "{after:?}");
    ensure!(
        after.iter().all(|(place, uid)| sources.get(place).is_some_and(|before| before != uid)),
        "all were made anew"
    );
    stage.scene.until_bound(&scene::STUCK).await?;
    stage.until_apps_run().await?;

    let left = told.report["left"].to_string();
    ensure!(
        left.contains("media/tautulli stays away until HelmRelease media/tautulli is upgraded"),
        "{left}"
    );

    let asked = stage.asked_since(0)?;
    ensure!(
        asked.iter().any(|one| one.resource == "pods" && one.verb == "delete"),
        "an operator would undo an annotation"
    );
    // Of the three sources of Flux, this house has the first.
    let other = ["get", "patch"]
        .into_iter()
        .flat_map(|verb| ["buckets", "ocirepositories"].map(|kind| format!("{verb} {kind}")));
    // An operator's Deployment is not annotated; the other stories do so to Rook's. A pod is looked at where the answer to
    // its deletion never came.
    let elsewhere = ["patch deployments", "get pods"].map(String::from);
    assert_eq!(
        role::unused(&asked)?,
        other.chain(elsewhere).collect(),
        "the Role grants what nobody needs"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn however_a_run_is_stopped_flux_is_given_back() -> Result<()> {
    let stage = Stage::healthy(Manner::default()).await?;
    stage.scene.strike().await?;
    let flux = stage.suspensions().await?;

    a_stranger_is_told_so(&stage).await?;
    the_cluster_refuses(&stage).await?;
    assert_eq!(stage.suspensions().await?, flux);
    let declared = scene::APPS.len();
    for (signals, resource, mode) in [
        (&["INT"][..], "kustomizations", "mode=evidence"),
        (&["TERM"], "replicationsources", "mode=all"),
        (&["INT", "INT"], "replicationsources", "mode=all"),
    ] {
        let told = stopped(&stage, signals, resource, mode).await?;
        println!(
            "SIG{signals:?}: over after {:.1} s in all: {}",
            told.took.as_secs_f64(),
            told.report["sentence"]
        );
        assert_eq!(stage.suspensions().await?, flux, "after {signals:?}: {told}");
        assert_eq!(stage.marked().await?, Vec::<String>::new(), "after {signals:?}: {told}");
        eventually("Flux works again", TIMEOUT, async || {
            let sources = stage.sources().await?;
            ensure!(
                scene::APPS
                    .iter()
                    .all(|(namespace, name)| sources.contains_key(&format!("{namespace}/{name}"))),
                "{} of {declared}",
                sources.len()
            );
            Ok(())
        })
        .await?;
    }

    let since = stage.now()?;
    stage
        .plane
        .kubectl(&["delete", "deployment", "csi-rbdplugin-provisioner", "--namespace=rook-ceph"])
        .await?;
    let told = stage.looks("run", &["evidence=waived"]).await?;
    ensure!(
        told.code == Some(1)
            && told.report["sentence"]
                .as_str()
                .is_some_and(|said| said.contains("no controller Deployment")),
        "{told}"
    );
    stage.plane.kubectl(&["delete", "crd", "replicationsources.volsync.backube"]).await?;
    let told = stage.looks("run", &["evidence=waived"]).await?;
    ensure!(
        told.code == Some(1)
            && told.report["sentence"].as_str().is_some_and(|said| said.contains("VolSync")),
        "{told}"
    );
    ensure!(stage.now()? > since);
    Ok(())
}

/// A run that is told to stop once its first change of such an object is seen.
async fn stopped(stage: &Stage, signals: &[&str], resource: &str, mode: &str) -> Result<Told> {
    let since = stage.now()?;
    // Slow enough that it cannot be through before the signal arrives.
    let running =
        stage.salve.start("run", &guest(&[mode, "deletions-at-once=1", "deletion-pause=700"]))?;
    eventually("a change is seen", TIMEOUT, async || {
        let asked = stage.asked_since(since)?;
        ensure!(
            mutations(&asked).any(|entry| entry.resource == resource && entry.is_granted()),
            "none yet"
        );
        Ok(())
    })
    .await?;
    for signal in signals {
        running.signal(signal).await?;
    }
    let told = running.end().await?;
    told.is(1, "not-fixed")?;
    let summary = told.report["sentence"].as_str().unwrap_or_default();
    ensure!(summary.starts_with("stopped by you"), "{told}");
    let account = stage.account(&told, since)?;
    account.is_whole()?;
    let changes = account.mutations();
    ensure!(changes.iter().all(|entry| entry.resource != "deployments"), "it went on: {told}");
    let suspended = changes.iter().filter(|entry| entry.request["spec"]["suspend"] == true).count();
    ensure!(suspended > 0, "it froze nothing: {told}");
    if signals.len() > 1 {
        let deleted = changes.iter().filter(|entry| entry.verb == "delete").count();
        ensure!(
            deleted < scene::APPS.len(),
            "it deleted all {deleted} in spite of the signals: {told}"
        );
    }
    Ok(told)
}

/// An account that may not delete learns it from the cluster, and gives Flux back.
async fn the_cluster_refuses(stage: &Stage) -> Result<()> {
    let kubeconfig =
        stage.plane.service_account("salve", "lesser", &role::without_deletion("lesser")?).await?;
    let sources = stage.sources().await?;
    let (told, asked) = stage.run_as("system:serviceaccount:salve:lesser", &kubeconfig).await?;
    told.is(4, "failed")?;
    let summary = told.report["sentence"].as_str().unwrap_or_default();
    ensure!(
        summary.contains("the cluster's own RBAC")
            && summary.contains("cannot delete resource \"replicationsources\""),
        "{told}"
    );
    let refused: BTreeSet<&str> =
        asked.iter().filter(|entry| entry.code == 403).map(|entry| entry.verb.as_str()).collect();
    assert_eq!(refused, BTreeSet::from(["delete"]), "{told}");
    ensure!(mutations(&asked).any(Entry::is_granted), "it has frozen something first: {told}");
    ensure!(
        asked.iter().all(|entry| entry.resource != "deployments" || entry.verb != "patch"),
        "it must not restart: {told}"
    );
    let deletion = told.report["effects"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["effect"] == "delete-replicationsources.delete");
    let outcome = deletion.and_then(|one| one["outcome"].as_str()).unwrap_or_default();
    ensure!(
        outcome.starts_with("0 of 7 deleted") && outcome.contains("RBAC"),
        "the report tells the deletion as {outcome:?}"
    );
    assert_eq!(stage.sources().await?, sources);
    assert_eq!(stage.marked().await?, Vec::<String>::new());
    Ok(())
}

/// The targets of one kind of touch, as the report tells them.
fn targets(told: &Told, effect: &str) -> BTreeSet<String> {
    let effects = told.report["effects"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|one| one["effect"] == effect);
    effects
        .flat_map(|one| one["targets"].as_array().into_iter().flatten())
        .map(Value::to_string)
        .collect()
}

/// Credentials that are worth nothing are told as such.
async fn a_stranger_is_told_so(stage: &Stage) -> Result<()> {
    let mut kubeconfig: Value = serde_json::from_str(&std::fs::read_to_string(
        stage.plane.kubeconfig(User::Administrator),
    )?)?;
    kubeconfig["users"][0]["user"]["token"] = json!("worthless");
    let file = stage.plane.folder().join("stranger.kubeconfig");
    std::fs::write(&file, kubeconfig.to_string())?;
    let told = stage.salve.with(&file).tell("run", &guest(&[])).await?;
    ensure!(told.code == Some(4) && told.stderr.contains("refuses these credentials"), "{told}");
    Ok(())
}

/// An administrator who acts as the account asks nothing in a name of their own.
async fn as_the_account(stage: &Stage) -> Result<()> {
    let since = stage.now()?;
    let mut arguments = guest(&[]);
    arguments.extend(["--as", role::USER]);
    stage.administrator().tell("check", &arguments).await?.is(0, "nothing-to-do")?;
    let asked = stage.asked_by(User::Administrator.name(), since)?;
    let ours: Vec<&Entry> =
        asked.iter().filter(|entry| entry.user_agent.starts_with("salve")).collect();
    ensure!(
        !ours.is_empty()
            && ours.iter().all(|entry| entry.impersonated.as_deref() == Some(role::USER)),
        "{ours:#?}"
    );
    Ok(())
}

/// An administrator asks for a token of the account, and for nothing else; what holds the account is said, and what does not hold the administrator.
async fn by_a_token_of_the_account(stage: &Stage) -> Result<()> {
    let since = stage.now()?;
    let mut arguments = guest(&[]);
    arguments.extend(["--service-account", "salve/volsync-unlock"]);
    let told = stage.administrator().tell("run", &arguments).await?;
    told.is(0, "nothing-to-do")?;
    assert_eq!(told.report["cluster"]["user"], role::USER);
    assert_eq!(enforcement(&told), [("host", true), ("role", true), ("admission", true)], "{told}");
    let asked = stage.asked_by(User::Administrator.name(), since)?;
    let ours: Vec<String> = asked
        .iter()
        .filter(|entry| entry.user_agent.starts_with("salve"))
        .map(account::words)
        .collect();
    ensure!(
        ours.iter().filter(|words| words.contains("serviceaccounts/volsync-unlock/token")).count()
            == 1
            && ours.len() <= 2,
        "the administrator's credentials asked for more than the version and a token: {ours:#?}"
    );
    ensure!(!stage.asked_since(since)?.is_empty(), "the account asked nothing");

    // A policy of the right name that never holds anybody is noticed.
    let policy = "salve-volsync-unlock-patch-helmreleases";
    for (operation, held) in [
        (r#"{"op": "add", "value": {"name": "never", "expression": "false"}"#, false),
        (r#"{"op": "remove""#, true),
    ] {
        let patch = format!(r#"[{operation}, "path": "/spec/matchConditions/1"}}]"#);
        stage
            .plane
            .kubectl(&["patch", "validatingadmissionpolicy", policy, "--type=json", "-p", &patch])
            .await?;
        let told = stage.administrator().tell("run", &arguments).await?;
        assert_eq!(
            enforcement(&told),
            [("host", true), ("role", true), ("admission", held)],
            "{told}"
        );
        let why = told.report["cluster"]["rings"][2]["why"].as_str().unwrap_or_default();
        ensure!(held || why.contains(&format!("no {policy} as these documents make it")), "{why}");
    }

    let told = stage.administrator().tell("run", &guest(&[])).await?;
    told.is(0, "nothing-to-do")?;
    assert_eq!(
        enforcement(&told),
        [("host", true), ("role", false), ("admission", false)],
        "{told}"
    );
    ensure!(
        told.report["cluster"]["rings"][1]["why"]
            .as_str()
            .is_some_and(|why| why.contains("get secrets")),
        "{told}"
    );
    let mut arguments = guest(&[]);
    arguments.extend(["--service-account", "salve/nobody"]);
    let told = stage.administrator().tell("check", &arguments).await?;
    ensure!(
        told.code == Some(4)
            && told.stderr.contains("salve/nobody")
            && told.stderr.contains("serviceaccounts/token"),
        "{told}"
    );
    Ok(())
}

fn enforcement(told: &Told) -> Vec<(&str, bool)> {
    let enforcement = told.report["cluster"]["rings"].as_array().into_iter().flatten();
    enforcement
        .map(|ring| (ring["name"].as_str().unwrap_or_default(), ring["holds"] == true))
        .collect()
}

/// `salve doctor`: before and after a leftover that a dead run might have left.
async fn nothing_is_left(stage: &Stage) -> Result<()> {
    let doctor = stage.administrator();
    let told = doctor.tell("doctor", &[]).await?;
    ensure!(told.code == Some(0), "{told}");
    let mark = |run: Value| json!({"metadata": {"annotations": {"salve.dev/run": run}}});
    stage
        .cluster
        .merge(&kind::KUSTOMIZATIONS, flux::NAMESPACE, scene::ROOT, &mark(json!("0badcafe")))
        .await?;
    let told = doctor.tell("doctor", &["--output", "human"]).await?;
    ensure!(
        told.code == Some(5)
            && told.stdout.contains("by run 0badcafe")
            && told.stdout.contains(scene::ROOT),
        "{told}"
    );
    // It is not suspended, so there is only the mark to take off.
    ensure!(
        told.stdout
            .contains("kubectl annotate kustomizations cluster-apps -n flux-system salve.dev/run-")
            && !told.stdout.contains("flux resume"),
        "{told}"
    );
    stage
        .cluster
        .merge(&kind::KUSTOMIZATIONS, flux::NAMESPACE, scene::ROOT, &mark(Value::Null))
        .await?;
    // It looks everywhere, which the account of a run may not.
    let told = stage.salve.tell("doctor", &[]).await?;
    ensure!(told.code == Some(4) && told.stderr.contains("the cluster's own RBAC"), "{told}");
    Ok(())
}
