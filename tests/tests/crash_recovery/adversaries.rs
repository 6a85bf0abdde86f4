//! People and other programs who meddle between any two requests: what they do stays as they want it.

use crate::fixture::{House, SHORTEST, on_threads};
use crate::interceptor::{Gate, Moment};
use crate::oracle::{ADVERSARY, Allowed, judge};
use futures::FutureExt;
use http::{Method, Request, header};
use http_body_util::Full;
use salve_core::report::Verdict;
use salve_simulator::{Incident, Simulator};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tower::Service;

const SOURCE: (&str, &str) = ("media", "sabnzbd");
const OWNER: (&str, &str) = ("media", "sabnzbd");
const DRIVER: (&str, &str) = ("rook-ceph", "csi-rbdplugin-provisioner");

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    ReCreateSource,
    EditSourceSpec,
    LabelSource,
    DeleteSource,
    SuspendOwner,
    ResumeOwner,
    TakeMarksOff,
    LabelOwner,
    DeleteOwner,
    ReCreateOwner,
    MarkOwnerAsAnotherRun,
    RestartDriver,
    LabelDriver,
}

const DEEDS: [Deed; 13] = [
    Deed::ReCreateSource,
    Deed::EditSourceSpec,
    Deed::LabelSource,
    Deed::DeleteSource,
    Deed::SuspendOwner,
    Deed::ResumeOwner,
    Deed::TakeMarksOff,
    Deed::LabelOwner,
    Deed::DeleteOwner,
    Deed::ReCreateOwner,
    Deed::MarkOwnerAsAnotherRun,
    Deed::RestartDriver,
    Deed::LabelDriver,
];

fn path(group: &str, version: &str, plural: &str, (namespace, name): (&str, &str)) -> String {
    format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}")
}

fn source() -> String {
    path("volsync.backube", "v1alpha1", "replicationsources", SOURCE)
}

fn owner() -> String {
    path("kustomize.toolkit.fluxcd.io", "v1", "kustomizations", OWNER)
}

fn driver() -> String {
    path("apps", "v1", "deployments", DRIVER)
}

/// Asks the cluster as somebody else, under the name that managedFields will show.
fn ask(simulator: &Simulator, method: Method, path: &str, body: Option<Value>) -> Option<Value> {
    let mut request = Request::builder()
        .method(method.clone())
        .uri(format!("{path}?fieldManager=kubectl-edit"))
        .header(header::USER_AGENT, ADVERSARY);
    if method == Method::PATCH {
        request = request.header(header::CONTENT_TYPE, "application/merge-patch+json");
    } else if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body =
        Full::new(bytes::Bytes::from(body.map_or_else(String::new, |body| body.to_string())));
    let response = simulator
        .clone()
        .call(request.body(body).unwrap())
        .now_or_never()
        .expect("a simulated answer is there at once")
        .ok()?;
    if !response.status().is_success() {
        return None;
    }
    let bytes =
        http_body_util::BodyExt::collect(response.into_body()).now_or_never()?.ok()?.to_bytes();
    serde_json::from_slice(&bytes).ok()
}

fn patch(simulator: &Simulator, path: &str, patch: Value) {
    ask(simulator, Method::PATCH, path, Some(patch));
}

fn re_create(simulator: &Simulator, path: &str) {
    let Some(mut object) = ask(simulator, Method::GET, path, None) else { return };
    ask(simulator, Method::DELETE, path, None);
    for key in [
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
        "deletionTimestamp",
    ] {
        object["metadata"].as_object_mut().unwrap().remove(key);
    }
    object.as_object_mut().unwrap().remove("status");
    let collection = path.rsplit_once('/').unwrap().0;
    ask(simulator, Method::POST, collection, Some(object));
}

impl Deed {
    fn does(self, simulator: &Simulator) {
        let label = || json!({"metadata": {"labels": {"seen": "by-somebody"}}});
        match self {
            Self::ReCreateSource => re_create(simulator, &source()),
            Self::EditSourceSpec => patch(simulator, &source(), json!({"spec": {"paused": true}})),
            Self::LabelSource => patch(simulator, &source(), label()),
            Self::DeleteSource => drop(ask(simulator, Method::DELETE, &source(), None)),
            Self::SuspendOwner => {
                // First resumed, where we hold it: somebody who sets what is set changes nothing.
                patch(simulator, &owner(), json!({"spec": {"suspend": false}}));
                patch(simulator, &owner(), json!({"spec": {"suspend": true}}));
            }
            Self::ResumeOwner => patch(simulator, &owner(), json!({"spec": {"suspend": false}})),
            Self::TakeMarksOff => {
                let marks = json!({"salve.dev/run": null, "salve.dev/reason": null, "salve.dev/deadline": null, "salve.dev/prior": null});
                patch(simulator, &owner(), json!({"metadata": {"annotations": marks}}));
            }
            Self::LabelOwner => patch(simulator, &owner(), label()),
            Self::DeleteOwner => drop(ask(simulator, Method::DELETE, &owner(), None)),
            Self::ReCreateOwner => re_create(simulator, &owner()),
            Self::MarkOwnerAsAnotherRun => patch(
                simulator,
                &owner(),
                json!({"metadata": {"annotations": {"salve.dev/run": "0badcafe", "salve.dev/reason": "theirs", "salve.dev/deadline": "2030-01-01T00:00:00Z"}}, "spec": {"suspend": true}}),
            ),
            Self::RestartDriver => patch(
                simulator,
                &driver(),
                json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-08-20T10:00:30Z"}}}}}),
            ),
            Self::LabelDriver => patch(simulator, &driver(), label()),
        }
    }

    /// Whether Flux may be otherwise afterwards, because they made it so.
    fn meddles_with_owner(self) -> bool {
        match self {
            Self::SuspendOwner
            | Self::ResumeOwner
            | Self::TakeMarksOff
            | Self::DeleteOwner
            | Self::ReCreateOwner
            | Self::MarkOwnerAsAnotherRun => true,
            Self::ReCreateSource
            | Self::EditSourceSpec
            | Self::LabelSource
            | Self::DeleteSource
            | Self::LabelOwner
            | Self::RestartDriver
            | Self::LabelDriver => false,
        }
    }
}

/// Before every how many-th request each deed is done. `SALVE_DEEDS=1` does it before each: `cargo xtask survive`.
fn stride() -> usize {
    std::env::var("SALVE_DEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(31)
}

#[tokio::test]
async fn whoever_meddles_between_two_requests_keeps_what_they_did() {
    let house = Arc::new(House::new(Incident::Playbook, SHORTEST).await);
    let requests = Arc::new(Mutex::new(0));
    let counts = requests.clone();
    house
        .run(&house.before.fork(), |gate: &Gate| {
            gate.observe(Box::new(move |moment, _, _| {
                *counts.lock().unwrap() += usize::from(matches!(moment, Moment::Request(_)))
            }))
        })
        .await;
    let requests = *requests.lock().unwrap();
    let (began, stride) = (Instant::now(), stride());
    let moments = (0..requests)
        .flat_map(|at| DEEDS.map(|deed| (at, deed)))
        .filter(|(at, deed)| (at + *deed as usize).is_multiple_of(stride));
    let told = on_threads(moments.collect(), {
        let house = house.clone();
        move |(at, deed)| {
            let house = house.clone();
            async move { meddle(&house, at, deed).await }
        }
    });
    println!(
        "report: {told} deeds, {} kinds, before {requests} requests in {:.0} s",
        DEEDS.len(),
        began.elapsed().as_secs_f64()
    );
}

async fn meddle(house: &House, at: usize, deed: Deed) {
    let mut left = at;
    let came = house
        .run(&house.before.fork(), |gate| {
            gate.observe(Box::new(move |moment, simulator, _| {
                if let Moment::Request(_) = moment {
                    if left == 0 {
                        deed.does(simulator);
                    }
                    left = left.wrapping_sub(1);
                }
            }));
        })
        .await;
    let moment = format!("{deed:?} before request {}", at + 1);
    let theirs = if deed.meddles_with_owner() {
        vec![format!("Kustomization {}/{}", OWNER.0, OWNER.1)]
    } else {
        vec![]
    };
    judge(house, &came, &Allowed { theirs, ..Allowed::default() }, &moment).await;
    let object = |group, plural, (namespace, name): (&str, &str)| {
        came.simulator.object(group, plural, namespace, name)
    };
    let owner = object("kustomize.toolkit.fluxcd.io", "kustomizations", OWNER);
    let closing = &came.over.as_ref().unwrap().closing;
    match deed {
        Deed::SuspendOwner => assert_eq!(
            owner.unwrap()["spec"]["suspend"],
            true,
            "{moment}: a person's suspend stays: {}",
            closing.summary
        ),
        // Before we suspend it, their resume is the state that we restore; afterwards it stays.
        Deed::ResumeOwner => {
            assert_ne!(owner.unwrap()["spec"]["suspend"], true, "{moment}: {}", closing.summary)
        }
        Deed::MarkOwnerAsAnotherRun => {
            let owner = owner.unwrap();
            assert_eq!(
                owner["metadata"]["annotations"]["salve.dev/run"], "0badcafe",
                "{moment}: another run's mark stays: {}",
                closing.summary
            );
            assert_eq!(owner["spec"]["suspend"], true, "{moment}: so does its suspend");
        }
        // Its parent makes it anew.
        Deed::DeleteOwner | Deed::ReCreateOwner => {
            let suspended = owner.is_some_and(|owner| owner["spec"]["suspend"] == true);
            assert!(!suspended, "{moment}: a namesake is not left suspended: {}", closing.summary);
        }
        Deed::TakeMarksOff
        | Deed::ReCreateSource
        | Deed::EditSourceSpec
        | Deed::LabelSource
        | Deed::DeleteSource
        | Deed::LabelOwner
        | Deed::RestartDriver
        | Deed::LabelDriver => {}
    }
    if !deed.meddles_with_owner() {
        assert!(
            closing.open.is_empty() && closing.verdict != Verdict::ActionRequired,
            "{moment}: {}",
            closing.summary
        );
    }
}
