//! What no grant names: other objects, names that are paths, Secrets by whatever name. Every answer goes into the sentence.

use crate::Came;
use salve_sdk::delete_replicationsources::{DeletionTarget, Pacing, delete};
use salve_sdk::suspend_flux::suspend;
use salve_sdk::types::{FluxKind, FluxRef};
use salve_sdk::{
    Error, ObjectRef, query_objects, query_pvcs, reconcile_flux, restart_deployment, tail_logs,
};

/// What was answered; `GOT` where something was given.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn tell(&mut self, what: &str, answer: Result<String, Error>) {
        self.0.push(format!(
            "{what:?}: {}",
            answer.unwrap_or_else(|error| error.message().to_owned())
        ));
    }
    fn came(self) -> Came {
        Ok(self.0.join("\n"))
    }
}

fn objects(
    group: &str,
    resource: &str,
    namespace: Option<&str>,
    selector: Option<&str>,
) -> Result<String, Error> {
    let kind = query_objects::Kind { group: group.into(), resource: resource.into() };
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
    let kind = query_objects::Kind { group: group.into(), resource: resource.into() };
    query_objects::get(&kind, Some(namespace), name).map(|text| format!("GOT {}", text.len()))
}

/// Secrets, and what leads to one: aliases, subresources, names that are paths.
pub fn secrets() -> Came {
    let mut told = Told::default();
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
        told.tell(resource, objects(group, resource, Some("media"), None));
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
        told.tell(name, object("", "configmaps", "media", name));
    }
    told.came()
}

/// Namespaces and names that mean something else to somebody else.
pub fn names() -> Came {
    let mut told = Told::default();
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
        told.tell("claims", pvcs(namespace));
    }
    told.tell("no namespace", query_pvcs::list_pvcs(&[]).map(|pvcs| format!("GOT {}", pvcs.len())));
    told.tell("a namespaced kind of the whole cluster", objects("", "configmaps", None, None));
    told.came()
}

/// Selectors that would become other queries, if they were put into an address as they are.
pub fn selectors() -> Came {
    let mut told = Told::default();
    for selector in [
        "a=b&limit=9999",
        "a=b#",
        "a=b&fieldSelector=metadata.namespace=kube-system",
        "a=b&watch=true",
        "a in (b",
        "a=b\r\nX-Remote-User: admin",
        "%26watch=true",
    ] {
        // In its own namespace it may list what bears such labels, which is nothing.
        let answer = objects("", "configmaps", Some("media"), Some(selector));
        told.tell(
            selector,
            if answer.as_ref().is_ok_and(|said| said == "GOT 0") {
                Ok("nothing".into())
            } else {
                answer
            },
        );
    }
    told.tell("elsewhere", objects("", "configmaps", Some("kube-system"), Some("a=b")));
    told.came()
}

/// Objects of others: by deletion, restart, suspension, reconciliation, log.
pub fn others() -> Came {
    let mut told = Told::default();
    for (namespace, name) in
        [("media", "plex"), ("ai", "ollama"), ("media", "../../ai/replicationsources/ollama")]
    {
        let frozen = DeletionTarget {
            object: ObjectRef::new(namespace, name),
            uid: "x".into(),
            digest: "x".into(),
            reason: "to reach".into(),
        };
        told.tell(
            "delete",
            delete(&[frozen], Pacing { batch_size: 1, interval_ms: 0 }).map(|_| "GOT".into()),
        );
    }
    let deployment = ObjectRef::new("flux-system", "kustomize-controller");
    told.tell(
        "restart",
        restart_deployment::restart(&deployment, "x", restart_deployment::Strategy::Annotate)
            .map(|_| "GOT".into()),
    );
    told.tell(
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
        told.tell("suspend", suspend(&[target.clone()], "wider", 10).map(|_| "GOT".into()));
        told.tell("reconcile", reconcile_flux::reconcile(&target, true, 1).map(|_| "GOT".into()));
    }
    let query = tail_logs::Query {
        deployment: deployment.clone(),
        container: "manager".into(),
        since: None,
        tail_lines: None,
        limit_bytes: 1024,
        pattern: None,
    };
    told.tell(
        "log",
        tail_logs::open(&query).and_then(|cursor| cursor.next()).map(|_| "GOT".into()),
    );
    told.came()
}

/// What it may suspend, with words that would say more than a reason.
pub fn marks() -> Came {
    let mut told = Told::default();
    let local = |name: &str| FluxRef {
        kind: FluxKind::Kustomization,
        namespace: "media".into(),
        name: name.into(),
    };
    for reason in [
        "x".repeat(1 << 16),
        "a\nmetadata:\n  finalizers: [evil]".into(),
        "\",\"finalizers\":[\"evil\"],\"x\":\"".into(),
    ] {
        told.tell("reason", suspend(&[local("nobody")], &reason, 10).map(|_| "GOT".into()));
    }
    told.tell(
        "twice in a set",
        suspend(&[local("plex"), local("plex")], "twice", 10).map(|_| "GOT".into()),
    );
    let sonarr = DeletionTarget {
        object: ObjectRef::new("media", "sonarr"),
        uid: "x".into(),
        digest: "x".into(),
        reason: "all at once".into(),
    };
    told.tell(
        "all at once",
        delete(&[sonarr], Pacing { batch_size: 65, interval_ms: 0 }).map(|_| "GOT".into()),
    );
    told.tell("none", suspend(&[], "none", 10).map(|_| "GOT".into()));
    told.tell("for ever", suspend(&[local("nobody")], "drain", u32::MAX).map(|_| "GOT".into()));
    told.came()
}
