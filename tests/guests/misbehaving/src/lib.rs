//! Suspends a Kustomization, and then ends as badly as it is told to.

use salve_sdk::delete_replicationsources::{Frozen, Pace, delete};
use salve_sdk::report::{Conclusion, Description, Diagnosis, State, Verdict};
use salve_sdk::suspend_flux::suspend;
use salve_sdk::types::{FluxKind, FluxRef};
use salve_sdk::{Error, ObjectRef, Remediation, Schema, query_objects, query_pvcs, restart_deployment, run};

struct Misbehaving;

salve_sdk::remediation!(Misbehaving);

fn schema() -> Schema {
    Schema::new().text("how", "return", "How it ends.")
}

impl Remediation for Misbehaving {
    fn describe() -> Description {
        Description { name: "misbehaving".into(), version: "0.1.0".into(), fixes: "Nothing.".into(), configuration: schema().to_json() }
    }

    /// Touches where it may only look.
    fn diagnose(_: &str) -> Result<Diagnosis, Error> {
        suspend(&[plex()], "a diagnosis has no business here", 10)?;
        Ok(Diagnosis::new(State::Healthy, "it let me touch"))
    }

    fn remediate(config: &str) -> Result<Conclusion, Error> {
        let how = schema().read(config)?.text("how").to_owned();
        let suspension = suspend(&[plex()], "to see it given back", 10)?;
        match how.as_str() {
            "return" => {}
            "forget" => std::mem::forget(suspension),
            "error" => return Err(Error::NotFound("what I was looking for".into())),
            "panic" => panic!("asked to panic"),
            "loop" => loop {
                std::hint::black_box(());
            },
            "recurse" => return Ok(Conclusion::new(Verdict::NotFixed, deep(1).to_string())),
            "hoard" => {
                let mut all: Vec<Vec<u8>> = vec![];
                loop {
                    all.push(vec![7; 1 << 20]);
                    std::hint::black_box(&all);
                }
            }
            "shout" => run::note(run::Level::Info, &"x".repeat(4 << 20)),
            "paint" => {
                run::step("\u{1b}[2Jowned", "\u{202e}desrever");
                run::note(run::Level::Warning, "\u{1b}]52;c;ZXZpbA==\u{7}\r\nFIXED  all is well");
            }
            "lie" => {
                let mut conclusion = Conclusion::new(Verdict::Fixed, "trust me");
                conclusion.proof = vec![1];
                return Ok(conclusion);
            }
            "reach" => return Ok(Conclusion::new(Verdict::NotFixed, reach())),
            other => return Err(Error::Invalid(format!("I do not know how to {other}"))),
        }
        Ok(Conclusion::new(Verdict::NothingToDo, "done"))
    }
}

/// Asks for what no grant names, and for names that are paths. Every answer goes into the sentence.
fn reach() -> String {
    let mut told = vec![];
    let mut tell = |what: &str, answer: Result<String, Error>| told.push(format!("{what}: {}", answer.unwrap_or_else(|e| e.sentence().to_string())));
    let claims = |namespace: &str| query_pvcs::claims(&[namespace.to_owned()]).map(|c| format!("GOT {}", c.len()));
    for namespace in ["kube-system", "media/../kube-system", "media%2f..%2fkube-system", "media/pods/plex/exec?command=sh", "", "*", "media\0", "МЕDIA"] {
        tell("claims", claims(namespace));
    }
    let objects = |group: &str, resource: &str| {
        let kind = query_objects::Kind { group: group.into(), resource: resource.into() };
        let query = query_objects::Query { kind, namespace: Some("media".into()), label_selector: None, limit: 10, next: None };
        query_objects::list_objects(&query).map(|p| format!("GOT {}", p.objects.len()))
    };
    for (group, resource) in [("", "secrets"), ("", "secrets/x"), ("", "Secrets"), ("v1", "secrets"), ("", "pods/exec"), ("", "serviceaccounts/token"), ("apps", "deployments")] {
        tell(resource, objects(group, resource));
    }
    let plex = Frozen { object: ObjectRef::new("media", "plex"), uid: "x".into(), digest: "x".into(), why: "to reach".into() };
    tell("delete", delete(&[plex], Pace { at_once: 1, pause: 0 }).map(|_| "GOT".into()));
    let deployment = ObjectRef::new("flux-system", "kustomize-controller");
    tell("restart", restart_deployment::restart(&deployment, "x", restart_deployment::Strategy::Annotate).map(|_| "GOT".into()));
    let other = FluxRef { kind: FluxKind::Kustomization, namespace: "flux-system".into(), name: "cluster-apps".into() };
    tell("suspend", suspend(&[other], "wider", 10).map(|_| "GOT".into()));
    told.join("\n")
}

fn plex() -> FluxRef {
    FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: "plex".into() }
}

#[allow(unconditional_recursion)]
fn deep(n: u64) -> u64 {
    std::hint::black_box(deep(std::hint::black_box(n + 1))) + n
}
