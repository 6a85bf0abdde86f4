//! The 404 of anything in front of the API server, such as a proxy that reloads its configuration:
//! no object counts as absent because of it.

use crate::fixture::{Fixture, KUSTOMIZE, RUN, VOLSYNC, app, write};
use salve_core::capability::Released;
use salve_core::capability::cluster_lock::{AcquireLease, GetHolder, ReleaseLease};
use salve_core::capability::delete_replicationsources::{
    Delete, DeletionOutcome, DeletionTarget, Pacing,
};
use salve_core::capability::host::{
    CheckPolicies, FindLeftovers, GetIdentity, Policy, PolicyStatus,
};
use salve_core::capability::query_drivers::{Controller, FindDriver, Selector};
use salve_core::capability::query_flux::GetFluxObject;
use salve_core::capability::query_replicationsources::ListSources;
use salve_core::capability::restart_deployment::{Restart, Strategy};
use salve_core::capability::suspend_flux::{PreviousSuspend, Resume, Suspend};
use salve_core::outcome::Error;
use salve_run::ApplyOutcome;
use salve_simulator::{Fault, Incident, Simulator};
use serde_json::{Value, json};

/// The 404 responses that are not the API server's answer about an object.
fn not_about_an_object() -> Vec<String> {
    let status = |details: Value| {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "kubernetes cluster \"home\" not found", "reason": "NotFound",
            "details": details, "code": 404})
        .to_string()
    };
    vec![
        "404 page not found\n".into(),
        "<html><h1>404 Not Found</h1></html>".into(),
        json!({"type": "error", "status": 404, "message": "No cluster available"}).to_string(),
        status(Value::Null),
        status(json!({})),
        status(json!({"name": "home", "kind": "clusters"})),
        String::new(),
    ]
}

/// Asserts that an error blames what is between Salve and the API server.
fn assert_blames_proxy(error: &Error, case: &str) {
    assert!(
        matches!(error, Error::Unavailable(text)
            if text.contains("something between Salve and the API server answered")
                && text.contains("404")),
        "{case:?}: {error:?}"
    );
}

/// Tries a release until it is settled. Every failure must blame the proxy.
async fn release_at_last(
    fixture: &Fixture,
    call: impl Into<salve_core::capability::Reversal>,
    case: &str,
) -> (Released, usize) {
    let reversal = call.into();
    for failures in 0..10 {
        match fixture.release(reversal.clone()).await {
            Ok(released) => return (released, failures),
            Err(error) => assert_blames_proxy(&error, case),
        }
    }
    panic!("{case:?}: never settled")
}

#[tokio::test]
async fn a_resume_is_not_settled_by_the_404_of_a_proxy() {
    let cluster = Simulator::new(Incident::Playbook);
    for body in not_about_an_object() {
        // Every request about the object, only the reads, only the resume, and everything after a
        // restart of the process, including discovery.
        for (verb, part, reconnect) in [
            (None, "/kustomizations/plex", false),
            (Some("get"), "/kustomizations/plex", false),
            (Some("patch"), "/kustomizations/plex", false),
            (None, "/", true),
        ] {
            let case = format!("{body:?} to {verb:?} {part}");
            let mut fixture = Fixture::over(cluster.fork());
            let call = Suspend {
                targets: vec![app("media", "plex")],
                reason: "repair".into(),
                drain_seconds: 30,
            };
            let suspended = fixture.suspend(call).await.unwrap();
            if reconnect {
                fixture = Fixture::over(fixture.simulator.clone());
            }
            let fault = Fault::foreign(404, body.clone()).at(part);
            fixture.simulator.fault(match verb {
                Some("patch") => fault.on("patch").first(4),
                Some(verb) => fault.on(verb).first(8),
                None => fault.first(8),
            });
            let resume = Resume {
                target: app("media", "plex"),
                uid: suspended.uid,
                previous: PreviousSuspend::Absent,
            };
            let (released, failures) = release_at_last(&fixture, resume, &case).await;
            assert_eq!(released.taken_over, None, "{case}");
            assert_eq!(failures > 0, verb != Some("patch"), "{case}");
            assert!(
                fixture.kustomization("media", "plex")["spec"].get("suspend").is_none(),
                "{case}"
            );
            let leftovers = fixture.read(FindLeftovers { kinds: vec![] }).await.unwrap();
            assert!(leftovers.is_empty(), "{case}");
        }
    }
}

#[tokio::test]
async fn the_lease_is_neither_free_nor_released_by_the_404_of_a_proxy() {
    let cluster = Simulator::new(Incident::Playbook);
    let acquire = |run: &str| AcquireLease { run: run.into(), reason: "".into(), seconds: 3600 };
    for body in not_about_an_object() {
        let fixture = Fixture::over(cluster.fork());
        let ours = fixture.write(acquire(RUN)).await.unwrap();
        for part in ["/leases/salve", "/namespaces/salve"] {
            let simulator = fixture.simulator.fork();
            simulator.fault(Fault::foreign(404, body.clone()).on("get").at(part));
            let fixture = Fixture::over(simulator);
            assert_blames_proxy(&fixture.read(GetHolder {}).await.unwrap_err(), &body);
            assert_blames_proxy(&fixture.write(acquire("run-2")).await.unwrap_err(), &body);
            assert!(fixture.request_bodies("POST").len() == 1, "{body:?}");
        }
        for verb in ["get", "delete"] {
            let fixture = Fixture::over(fixture.simulator.fork());
            let faults = if verb == "get" { 8 } else { 4 };
            let fault = Fault::foreign(404, body.clone()).on(verb).at("/leases/salve");
            fixture.simulator.fault(fault.first(faults));
            let release = ReleaseLease { namespace: ours.namespace.clone(), run: RUN.into() };
            let (released, failures) = release_at_last(&fixture, release, &body).await;
            assert_eq!((released.taken_over, failures > 0), (None, verb == "get"), "{body:?}");
            assert_eq!(fixture.read(GetHolder {}).await.unwrap(), None, "{body:?}");
        }
    }
}

#[tokio::test]
async fn a_source_is_not_gone_because_of_the_404_of_a_proxy() {
    let cluster = Simulator::new(Incident::Playbook);
    for body in not_about_an_object() {
        for faults in [1, 8] {
            let fixture = Fixture::over(cluster.fork());
            let sources = fixture.read(ListSources { namespaces: vec!["media".into()] }).await;
            let source = sources.unwrap().into_iter().find(|one| one.object.name == "sonarr");
            let source = source.expect("the source exists");
            let call = Delete {
                set: vec![DeletionTarget {
                    object: source.object,
                    uid: source.uid,
                    digest: source.digest,
                    reason: String::new(),
                }],
                pacing: Pacing { batch_size: 1, interval_ms: 0 },
            };
            let observed = fixture.observe(&write(call.clone())).await;
            let fault =
                Fault::foreign(404, body.clone()).at("/replicationsources/sonarr").first(faults);
            fixture.simulator.fault(fault.clone());
            let attempt = fixture.apply(&write(call.clone()), &observed).await;
            match attempt {
                // The lost request may still arrive.
                ApplyOutcome::Done(Ok(answer)) if faults == 8 => {
                    let answer = crate::fixture::take::<Delete>(answer);
                    assert_eq!(answer[0].outcome, DeletionOutcome::Unknown, "{body:?}");
                    assert!(
                        answer[0].message.as_ref().unwrap().contains("between Salve"),
                        "{answer:?}"
                    );
                }
                ApplyOutcome::Conflict { completed: None, .. } if faults == 1 => {}
                other => panic!("{body:?}: {other:?}"),
            }
            assert!(
                fixture
                    .simulator
                    .object(VOLSYNC, "replicationsources", "media", "sonarr")
                    .is_some()
            );
            if faults == 8 {
                fixture.simulator.fault(fault);
                let read = fixture.read_current(&write(call.clone()), None).await;
                assert_blames_proxy(&read.unwrap_err(), &body);
                match fixture.resolve(&write(call), &observed).await {
                    ApplyOutcome::Done(Err(error)) => assert_blames_proxy(&error, &body),
                    other => panic!("{body:?}: {other:?}"),
                }
            } else {
                let answer = fixture.write(call).await.unwrap();
                assert_eq!(answer[0].outcome, DeletionOutcome::Deleted, "{body:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_pod_is_not_replaced_because_of_the_404_of_a_proxy() {
    let cluster = Simulator::new(Incident::OperatorManaged);
    for body in not_about_an_object() {
        for faults in [1, 8] {
            let fixture = Fixture::over(cluster.fork());
            let selector = Selector::StorageClass("ceph-block".into());
            let driver = fixture.read(FindDriver { selector, namespace: "rook-ceph".into() }).await;
            let controller: Controller = driver.unwrap().controller.expect("a controller");
            let call = Restart {
                target: controller.deployment.clone(),
                uid: controller.uid.clone(),
                strategy: Strategy::ReplacePods,
            };
            let fault = Fault::foreign(404, body.clone()).on("delete").at("/pods/").first(faults);
            fixture.simulator.fault(fault);
            match fixture.write(call).await {
                Ok(restarted) if faults == 1 => {
                    assert_eq!(restarted.old_pods.len(), controller.pods.len(), "{body:?}");
                    for pod in &controller.pods {
                        let now = fixture.simulator.object("", "pods", "rook-ceph", &pod.name);
                        assert!(
                            now.is_none_or(|now| now["metadata"]["uid"] != pod.uid.as_str()
                                || now["metadata"].get("deletionTimestamp").is_some()),
                            "{body:?}"
                        );
                    }
                }
                Err(error) if faults == 8 => assert_blames_proxy(&error, &body),
                other => panic!("{body:?}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_group_is_missing_only_if_the_list_of_groups_says_so() {
    let cluster = Simulator::new(Incident::Playbook);
    let sources = || ListSources { namespaces: vec!["media".into()] };
    for body in not_about_an_object() {
        // A proxy that answers everything, the path of the group, and that of its version.
        for part in ["/", "/apis/volsync.backube", "/apis/volsync.backube/v1alpha1"] {
            let fixture = Fixture::over(cluster.fork());
            fixture.simulator.fault(Fault::foreign(404, body.clone()).at(part));
            assert_blames_proxy(&fixture.read(sources()).await.unwrap_err(), &body);
            let fixture = Fixture::over(cluster.fork());
            fixture.simulator.fault(Fault::foreign(404, body.clone()).at(part).first(3));
            fixture.read(sources()).await.unwrap();
        }
        let fixture = Fixture::over(cluster.fork());
        fixture.simulator.fault(Fault::foreign(404, body.clone()).at("/apis/toolkit"));
        fixture.simulator.fault(Fault::foreign(404, body.clone()).at(KUSTOMIZE));
        let leftovers = fixture.read(FindLeftovers { kinds: vec![] }).await;
        assert_blames_proxy(&leftovers.unwrap_err(), &body);
        let object = fixture.read(GetFluxObject { target: app("media", "plex") }).await;
        assert_blames_proxy(&object.unwrap_err(), &body);
    }
    // A successful response of something else is not a list of groups.
    for page in ["{}", r#"{"kind": "Status"}"#] {
        let fixture = Fixture::over(cluster.fork());
        fixture.simulator.fault(Fault::foreign(200, page).at("/apis"));
        let error = fixture.read(sources()).await.unwrap_err();
        assert!(
            matches!(&error, Error::Unavailable(text) if text.contains("is a proxy in between")),
            "{error}"
        );
    }
    let fixture = Fixture::over(cluster.fork());
    fixture.simulator.uninstall(VOLSYNC);
    let error = fixture.read(sources()).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound(text) if text.contains("VolSync")), "{error}");
}

#[tokio::test]
async fn the_identity_is_not_incomplete_because_of_the_404_of_a_proxy() {
    let cluster = Simulator::new(Incident::Playbook);
    for body in not_about_an_object() {
        for part in ["/selfsubjectreviews", "/namespaces/kube-system"] {
            let fixture = Fixture::over(cluster.fork());
            fixture.simulator.fault(Fault::foreign(404, body.clone()).at(part));
            assert_blames_proxy(&fixture.read(GetIdentity {}).await.unwrap_err(), &body);
        }
    }
    // Kubernetes before 1.28 does not serve the review.
    let fixture = Fixture::over(cluster.fork());
    fixture.simulator.uninstall("authentication.k8s.io");
    let identity = fixture.read(GetIdentity {}).await.unwrap();
    assert_eq!((identity.uid.is_some(), identity.user), (true, None));
}

#[tokio::test]
async fn a_policy_is_missing_only_if_the_api_server_says_so() {
    let cluster = Simulator::new(Incident::Playbook);
    let policy = Policy { name: "salve-run".into(), spec: json!({}), binding: json!({}) };
    let call = CheckPolicies { policies: vec![policy] };
    // The simulated cluster does not serve policies, like Kubernetes before 1.30.
    let fixture = Fixture::over(cluster.fork());
    assert_eq!(fixture.read(call.clone()).await.unwrap(), [PolicyStatus::Missing]);
    for body in not_about_an_object() {
        let fixture = Fixture::over(cluster.fork());
        fixture.simulator.fault(Fault::foreign(404, body.clone()).at("/apis"));
        assert_blames_proxy(&fixture.read(call.clone()).await.unwrap_err(), &body);
    }
}
