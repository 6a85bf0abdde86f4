//! Another user or controller changes an object between any two requests: its change is kept.

use crate::fixture::{Fixture, SHORTEST, run_on_threads, stride};
use crate::interceptor::{Interceptor, Operation};
use crate::oracle::{Allowed, OTHER_USER, check};
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

/// A change by another user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interference {
    RecreateSource,
    EditSourceSpec,
    LabelSource,
    DeleteSource,
    SuspendOwner,
    ResumeOwner,
    RemoveRunAnnotations,
    LabelOwner,
    DeleteOwner,
    RecreateOwner,
    SuspendOwnerAsAnotherRun,
    RestartDriver,
    LabelDriver,
}

const INTERFERENCES: [Interference; 13] = [
    Interference::RecreateSource,
    Interference::EditSourceSpec,
    Interference::LabelSource,
    Interference::DeleteSource,
    Interference::SuspendOwner,
    Interference::ResumeOwner,
    Interference::RemoveRunAnnotations,
    Interference::LabelOwner,
    Interference::DeleteOwner,
    Interference::RecreateOwner,
    Interference::SuspendOwnerAsAnotherRun,
    Interference::RestartDriver,
    Interference::LabelDriver,
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

/// Sends a request as another user, with the field manager that managedFields will show. Returns
/// the body of a successful response.
fn send(simulator: &Simulator, method: Method, path: &str, body: Option<Value>) -> Option<Value> {
    let mut request = Request::builder()
        .method(method.clone())
        .uri(format!("{path}?fieldManager=kubectl-edit"))
        .header(header::USER_AGENT, OTHER_USER);
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
        .expect("the simulator responds immediately")
        .ok()?;
    if !response.status().is_success() {
        return None;
    }
    let bytes =
        http_body_util::BodyExt::collect(response.into_body()).now_or_never()?.ok()?.to_bytes();
    serde_json::from_slice(&bytes).ok()
}

fn patch(simulator: &Simulator, path: &str, patch: Value) {
    send(simulator, Method::PATCH, path, Some(patch));
}

fn recreate(simulator: &Simulator, path: &str) {
    let Some(mut object) = send(simulator, Method::GET, path, None) else { return };
    send(simulator, Method::DELETE, path, None);
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
    send(simulator, Method::POST, collection, Some(object));
}

impl Interference {
    fn apply(self, simulator: &Simulator) {
        let label = || json!({"metadata": {"labels": {"edited-by": "another-user"}}});
        match self {
            Self::RecreateSource => recreate(simulator, &source()),
            Self::EditSourceSpec => patch(simulator, &source(), json!({"spec": {"paused": true}})),
            Self::LabelSource => patch(simulator, &source(), label()),
            Self::DeleteSource => drop(send(simulator, Method::DELETE, &source(), None)),
            Self::SuspendOwner => {
                // Resumed first, in case this run suspended it: setting a value again changes
                // nothing.
                patch(simulator, &owner(), json!({"spec": {"suspend": false}}));
                patch(simulator, &owner(), json!({"spec": {"suspend": true}}));
            }
            Self::ResumeOwner => patch(simulator, &owner(), json!({"spec": {"suspend": false}})),
            Self::RemoveRunAnnotations => {
                let annotations = json!({
                    "salve.dev/run": null,
                    "salve.dev/reason": null,
                    "salve.dev/deadline": null,
                    "salve.dev/previous": null,
                });
                patch(simulator, &owner(), json!({"metadata": {"annotations": annotations}}));
            }
            Self::LabelOwner => patch(simulator, &owner(), label()),
            Self::DeleteOwner => drop(send(simulator, Method::DELETE, &owner(), None)),
            Self::RecreateOwner => recreate(simulator, &owner()),
            Self::SuspendOwnerAsAnotherRun => {
                let annotations = json!({
                    "salve.dev/run": "0badcafe",
                    "salve.dev/reason": "another run",
                    "salve.dev/deadline": "2030-01-01T00:00:00Z",
                });
                let suspended =
                    json!({"metadata": {"annotations": annotations}, "spec": {"suspend": true}});
                patch(simulator, &owner(), suspended);
            }
            Self::RestartDriver => {
                let annotations =
                    json!({"kubectl.kubernetes.io/restartedAt": "2026-08-20T10:00:30Z"});
                let template = json!({"metadata": {"annotations": annotations}});
                patch(simulator, &driver(), json!({"spec": {"template": template}}));
            }
            Self::LabelDriver => patch(simulator, &driver(), label()),
        }
    }

    /// Returns whether the owner may differ from its initial state afterwards.
    fn changes_owner(self) -> bool {
        match self {
            Self::SuspendOwner
            | Self::ResumeOwner
            | Self::RemoveRunAnnotations
            | Self::DeleteOwner
            | Self::RecreateOwner
            | Self::SuspendOwnerAsAnotherRun => true,
            Self::RecreateSource
            | Self::EditSourceSpec
            | Self::LabelSource
            | Self::DeleteSource
            | Self::LabelOwner
            | Self::RestartDriver
            | Self::LabelDriver => false,
        }
    }
}

/// The default stride between the requests before which a given interference is tried.
const STRIDE: usize = 157;

#[tokio::test]
async fn changes_by_another_user_between_two_requests_are_kept() {
    let fixture = Arc::new(Fixture::new(Incident::Playbook, SHORTEST).await);
    let requests = Arc::new(Mutex::new(0));
    let counter = requests.clone();
    fixture
        .run(&fixture.initial.fork(), |interceptor: &Interceptor| {
            interceptor.observe(Box::new(move |operation, _, _| {
                *counter.lock().unwrap() += usize::from(matches!(operation, Operation::Request(_)))
            }))
        })
        .await;
    let requests = *requests.lock().unwrap();
    let (began, stride) = (Instant::now(), stride(STRIDE));
    let cases = (0..requests)
        .flat_map(|index| INTERFERENCES.map(|interference| (index, interference)))
        .filter(|(index, interference)| (index + *interference as usize).is_multiple_of(stride));
    let count = run_on_threads(cases.collect(), {
        let fixture = fixture.clone();
        move |(index, interference)| {
            let fixture = fixture.clone();
            async move { check_interference(&fixture, index, interference).await }
        }
    });
    println!(
        "report: {count} interferences, {} kinds, before {requests} requests in {:.0} s",
        INTERFERENCES.len(),
        began.elapsed().as_secs_f64()
    );
}

async fn check_interference(fixture: &Fixture, index: usize, interference: Interference) {
    let mut remaining = index;
    let end = fixture
        .run(&fixture.initial.fork(), |interceptor| {
            interceptor.observe(Box::new(move |operation, simulator, _| {
                if let Operation::Request(_) = operation {
                    if remaining == 0 {
                        interference.apply(simulator);
                    }
                    remaining = remaining.wrapping_sub(1);
                }
            }));
        })
        .await;
    let context = format!("{interference:?} before request {}", index + 1);
    let changed_by_others = if interference.changes_owner() {
        vec![format!("Kustomization {}/{}", OWNER.0, OWNER.1)]
    } else {
        vec![]
    };
    let allowed = Allowed { changed_by_others, ..Allowed::default() };
    check(fixture, &end, &allowed, &context).await;
    let object = |group, plural, (namespace, name): (&str, &str)| {
        end.simulator.object(group, plural, namespace, name)
    };
    let owner = object("kustomize.toolkit.fluxcd.io", "kustomizations", OWNER);
    let result = &end.finished.as_ref().unwrap().result;
    match interference {
        Interference::SuspendOwner => assert_eq!(
            owner.unwrap()["spec"]["suspend"],
            true,
            "{context}: the other user's suspend is kept: {}",
            result.summary
        ),
        // Before this run suspends it, their resume is the state to restore; afterwards it is kept.
        Interference::ResumeOwner => {
            assert_ne!(owner.unwrap()["spec"]["suspend"], true, "{context}: {}", result.summary)
        }
        Interference::SuspendOwnerAsAnotherRun => {
            let owner = owner.unwrap();
            assert_eq!(
                owner["metadata"]["annotations"]["salve.dev/run"], "0badcafe",
                "{context}: another run's annotation is kept: {}",
                result.summary
            );
            assert_eq!(owner["spec"]["suspend"], true, "{context}: so is its suspend");
        }
        // Its parent creates it again.
        Interference::DeleteOwner | Interference::RecreateOwner => {
            let suspended = owner.is_some_and(|owner| owner["spec"]["suspend"] == true);
            assert!(
                !suspended,
                "{context}: the new object is not left suspended: {}",
                result.summary
            );
        }
        Interference::RemoveRunAnnotations
        | Interference::RecreateSource
        | Interference::EditSourceSpec
        | Interference::LabelSource
        | Interference::DeleteSource
        | Interference::LabelOwner
        | Interference::RestartDriver
        | Interference::LabelDriver => {}
    }
    if !interference.changes_owner() {
        assert!(
            result.open.is_empty() && result.verdict != Verdict::ActionRequired,
            "{context}: {}",
            result.summary
        );
    }
}
