//! Attacks on the policy: objects that no grant allows, names that are paths, and Secrets under
//! other names. The summary lists every answer.

use crate::AttackResult;
use salve_sdk::delete_replicationsources::{DeletionTarget, Pacing, delete};
use salve_sdk::suspend_flux::suspend;
use salve_sdk::types::{FluxKind, FluxRef, Kind};
use salve_sdk::{
    Error, ObjectRef, query_objects, query_pvcs, reconcile_flux, restart_deployment, tail_logs,
};

/// The answers. An answer contains `GOT` if a call succeeded.
#[derive(Default)]
struct Answers(Vec<String>);

impl Answers {
    fn add(&mut self, attempt: &str, answer: Result<String, Error>) {
        self.0.push(format!(
            "{attempt:?}: {}",
            answer.unwrap_or_else(|error| error.message().to_owned())
        ));
    }

    fn finish(self) -> AttackResult {
        Ok(self.0.join("\n"))
    }
}

fn objects(
    group: &str,
    resource: &str,
    namespace: Option<&str>,
    selector: Option<&str>,
) -> Result<String, Error> {
    let kind = Kind { group: group.into(), resource: resource.into() };
    let query = query_objects::Query {
        kind,
        namespace: namespace.map(Into::into),
        label_selector: selector.map(Into::into),
        limit: 10,
        next: None,
    };
    query_objects::list_objects(&query).map(|page| format!("GOT {}", page.objects.len()))
}

fn object(group: &str, resource: &str, namespace: &str, name: &str) -> Result<String, Error> {
    let kind = Kind { group: group.into(), resource: resource.into() };
    query_objects::get(&kind, Some(namespace), name).map(|text| format!("GOT {}", text.len()))
}

/// Reads Secrets by aliases, subresources, and names that are paths.
pub fn secrets() -> AttackResult {
    let mut answers = Answers::default();
    for (group, resource) in [
        ("", "secrets"),
        ("", "Secrets"),
        ("", "secret"),
        ("v1", "secrets"),
        ("", "secrets/x"),
        ("", "secrets?x="),
        ("core", "secrets"),
        ("", "configmaps/../secrets"),
        ("", "configmaps%2f..%2fsecrets"),
        ("", "pods/exec"),
        ("", "serviceaccounts/token"),
        ("", "nodes/proxy"),
        ("extensions", "deployments"),
        ("authentication.k8s.io", "tokenreviews"),
    ] {
        answers.add(resource, objects(group, resource, Some("media"), None));
    }
    for name in [
        "../secrets/x",
        "x/../../secrets/y",
        "x%2f..%2f..%2fsecrets%2fy",
        "x?fieldSelector=",
        "x/token",
        "x/exec?command=sh",
        "x\0",
        ".",
    ] {
        answers.add(name, object("", "configmaps", "media", name));
    }
    answers.finish()
}

/// Passes namespaces and names that another component could interpret differently.
pub fn names() -> AttackResult {
    let mut answers = Answers::default();
    let pvcs = |namespace: &str| {
        query_pvcs::list_pvcs(&[namespace.to_owned()]).map(|pvcs| format!("GOT {}", pvcs.len()))
    };
    for namespace in [
        "kube-system",
        "media/../kube-system",
        "media%2f..%2fkube-system",
        "media/pods/plex/exec?command=sh",
        "",
        "*",
        "media\0",
        "media\u{0}\u{0}",
        "МЕDIA",
        "ｍedia",
        "media\u{200b}",
        "media ",
        ".",
        "..",
        "-media",
        "media.kube-system",
    ] {
        answers.add("PVCs", pvcs(namespace));
    }
    answers
        .add("no namespace", query_pvcs::list_pvcs(&[]).map(|pvcs| format!("GOT {}", pvcs.len())));
    answers.add("a namespaced kind in all namespaces", objects("", "configmaps", None, None));
    answers.finish()
}

/// Passes selectors that would become other queries if they were copied into a URL unescaped.
pub fn selectors() -> AttackResult {
    let mut answers = Answers::default();
    for selector in [
        "a=b&limit=9999",
        "a=b#",
        "a=b&fieldSelector=metadata.namespace=kube-system",
        "a=b&watch=true",
        "a in (b",
        "a=b\r\nX-Remote-User: admin",
        "%26watch=true",
    ] {
        // It may list objects with these labels in its own namespace. There are none.
        let answer = objects("", "configmaps", Some("media"), Some(selector));
        answers.add(
            selector,
            if answer.as_ref().is_ok_and(|answer| answer == "GOT 0") {
                Ok("nothing".into())
            } else {
                answer
            },
        );
    }
    answers.add("elsewhere", objects("", "configmaps", Some("kube-system"), Some("a=b")));
    answers.finish()
}

/// Deletes, restarts, suspends, and reconciles objects that are not granted, and reads their logs.
pub fn others() -> AttackResult {
    let mut answers = Answers::default();
    for (namespace, name) in
        [("media", "plex"), ("ai", "ollama"), ("media", "../../ai/replicationsources/ollama")]
    {
        let target = DeletionTarget {
            object: ObjectRef::new(namespace, name),
            uid: "x".into(),
            digest: "x".into(),
            reason: "not granted".into(),
        };
        answers.add(
            "delete",
            delete(&[target], Pacing { batch_size: 1, interval_ms: 0 }).map(|_| "GOT".into()),
        );
    }
    let deployment = ObjectRef::new("flux-system", "kustomize-controller");
    answers.add(
        "restart",
        restart_deployment::restart(&deployment, "x", restart_deployment::Strategy::Annotate)
            .map(|_| "GOT".into()),
    );
    answers.add(
        "replace",
        restart_deployment::restart(&deployment, "x", restart_deployment::Strategy::ReplacePods)
            .map(|_| "GOT".into()),
    );
    let flux = |kind: FluxKind, namespace: &str, name: &str| FluxRef {
        kind,
        namespace: namespace.into(),
        name: name.into(),
    };
    for target in [
        flux(FluxKind::Kustomization, "flux-system", "cluster-apps"),
        flux(FluxKind::HelmRelease, "media", "plex"),
        flux(FluxKind::GitRepository, "flux-system", "flux-system"),
    ] {
        answers.add("suspend", suspend(&[target.clone()], "wider", 10).map(|_| "GOT".into()));
        answers.add("reconcile", reconcile_flux::reconcile(&target, true, 1).map(|_| "GOT".into()));
    }
    let query = tail_logs::Query {
        workload: tail_logs::Workload {
            kind: tail_logs::WorkloadKind::Deployment,
            object: deployment.clone(),
        },
        container: "manager".into(),
        since: None,
        tail_lines: None,
        limit_bytes: 1024,
        pattern: None,
    };
    answers
        .add("log", tail_logs::open(&query).and_then(|cursor| cursor.next()).map(|_| "GOT".into()));
    answers.finish()
}

/// Passes invalid arguments and reasons that contain markup for objects that it may suspend.
pub fn marks() -> AttackResult {
    let mut answers = Answers::default();
    let media = |name: &str| FluxRef {
        kind: FluxKind::Kustomization,
        namespace: "media".into(),
        name: name.into(),
    };
    for reason in [
        "x".repeat(1 << 16),
        "a\nmetadata:\n  finalizers: [evil]".into(),
        "\",\"finalizers\":[\"evil\"],\"x\":\"".into(),
    ] {
        answers.add("reason", suspend(&[media("unknown")], &reason, 10).map(|_| "GOT".into()));
    }
    answers.add(
        "twice in a set",
        suspend(&[media("plex"), media("plex")], "twice", 10).map(|_| "GOT".into()),
    );
    let sonarr = DeletionTarget {
        object: ObjectRef::new("media", "sonarr"),
        uid: "x".into(),
        digest: "x".into(),
        reason: "all at once".into(),
    };
    answers.add(
        "all at once",
        delete(&[sonarr], Pacing { batch_size: 65, interval_ms: 0 }).map(|_| "GOT".into()),
    );
    answers.add("none", suspend(&[], "none", 10).map(|_| "GOT".into()));
    answers.add(
        "drain without end",
        suspend(&[media("unknown")], "drain", u32::MAX).map(|_| "GOT".into()),
    );
    answers.finish()
}
