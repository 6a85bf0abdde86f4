//! Reads: what they return for the playbook's incident, and how they fail.

use crate::fixture::Fixture;
use salve_core::capability::call::ReadCall as _;
use salve_core::capability::host::GetIdentity;
use salve_core::capability::query_drivers::{Controller, FindDriver, Selector};
use salve_core::capability::query_flux::{FindOwners, Ownership, Subject, SubjectKind};
use salve_core::capability::query_objects::{GetObject, ListObjects};
use salve_core::capability::query_pods::ListPods;
use salve_core::capability::query_pvcs::{
    ListOtherVolumes, ListPvcs, ListSnapshots, Phase, PvcState, Volume, Waiting,
};
use salve_core::capability::query_replicationsources::{Health, ListDestinations, ListSources};
use salve_core::capability::tail_logs::{NextPage, Page, Query, Workload, WorkloadKind};
use salve_core::capability::types::Kind;
use salve_core::capability::types::ObjectRef;
use salve_core::glob::Glob;
use salve_core::outcome::Error;
use salve_core::problem::Problem;
use salve_simulator::{Exchange, Fault, Incident};
use serde_json::{Value, json};
use std::time::Duration;

fn namespaces(all: &[&str]) -> Vec<String> {
    all.iter().map(|ns| (*ns).to_owned()).collect()
}

#[tokio::test]
async fn pvcs_are_returned_with_the_reason_why_they_are_pending() {
    let fixture = Fixture::new(Incident::Playbook);
    let pvcs = fixture
        .read(ListPvcs { namespaces: namespaces(&["media", "security", "home-automation"]) })
        .await
        .unwrap();
    let find = |name: &str| {
        pvcs.iter().find(|pvc| pvc.object.name == name).unwrap_or_else(|| panic!("no PVC {name}"))
    };
    assert_eq!((find("plex").phase, find("plex").waiting), (Phase::Bound, None));
    assert_eq!(
        (find("jellyfin").waiting, find("jellyfin").driver.as_deref()),
        (Some(Waiting::CsiLocked), Some("rook-ceph.rbd.csi.ceph.com"))
    );
    assert!(find("jellyfin").evidence.as_ref().unwrap().contains(&find("jellyfin").uid));
    assert_eq!(find("authelia").waiting, Some(Waiting::ForFirstConsumer));
    assert!(find("zigbee2mqtt").terminating_since.is_some());
    assert!(pvcs.is_sorted_by(|a, b| a.object <= b.object));
    assert!(
        !fixture
            .read(ListSnapshots { namespaces: namespaces(&["home-automation"]) })
            .await
            .unwrap()
            .is_empty()
    );
    assert!(fixture.simulator.mutations().is_empty());
}

#[tokio::test]
async fn sources_are_returned_with_their_health_and_owner() {
    let fixture = Fixture::new(Incident::Playbook);
    let sources = fixture
        .read(ListSources { namespaces: namespaces(&["media", "home-automation"]) })
        .await
        .unwrap();
    let health = |name: &str| {
        sources.iter().find(|source| source.object.name == name).map(|source| source.health)
    };
    assert_eq!(
        [health("plex"), health("sonarr"), health("old-lidarr"), health("zigbee2mqtt")],
        [
            Some(Health::Healthy),
            Some(Health::Orphan),
            Some(Health::Orphan),
            Some(Health::TerminatingSource)
        ]
    );
    let subject = |name: &str| Subject {
        kind: SubjectKind::ReplicationSource,
        object: ObjectRef::new("media", name),
    };
    let owners = fixture
        .read(FindOwners { subjects: vec![subject("sonarr"), subject("plex")] })
        .await
        .unwrap();
    assert_eq!(
        owners.iter().map(|o| o.ownership).collect::<Vec<_>>(),
        [Ownership::Abandoned, Ownership::Managed]
    );
    assert_eq!(owners[1].owner.as_ref().unwrap().parent.as_ref().unwrap().name, "cluster-apps");
    let error = fixture.read(FindOwners { subjects: vec![subject("missing")] }).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound(text) if text.contains("media/missing")), "{error}");
    assert!(
        !fixture
            .read(ListDestinations { namespaces: namespaces(&["selfhosted"]) })
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn an_owner_that_is_not_here_or_not_granted_is_not_taken_for_one_that_gave_up_the_source() {
    let fixture = Fixture::new(Incident::Playbook);
    let subject = || Subject {
        kind: SubjectKind::ReplicationSource,
        object: ObjectRef::new("media", "sonarr"),
    };
    let ownership = async |granted: &str| {
        let call = FindOwners { subjects: vec![subject()] };
        let owners = fixture.read_granted(call, Glob::new(granted).unwrap()).await.unwrap();
        owners[0].ownership
    };
    assert_eq!(ownership("*").await, Ownership::Abandoned);
    assert_eq!(ownership("flux-system").await, Ownership::Foreign);
    // The labels of a hub's Kustomization, which has `spec.kubeConfig`.
    fixture.simulator.edit("volsync.backube", "replicationsources", "media", "sonarr", |source| {
        let labels = &mut source["metadata"]["labels"];
        labels["kustomize.toolkit.fluxcd.io/name"] = "spoke-apps".into();
        labels["kustomize.toolkit.fluxcd.io/namespace"] = "fleet-a".into();
    });
    assert_eq!(ownership("*").await, Ownership::UnknownOwner);
}

#[tokio::test]
async fn volumes_outside_of_the_listed_namespaces_have_the_state_of_their_pvcs() {
    let fixture = Fixture::new(Incident::TerminatingDelete);
    let call = |driver: &str| ListOtherVolumes {
        namespaces: namespaces(&["media"]),
        driver: driver.into(),
    };
    let driver = "rook-ceph.rbd.csi.ceph.com";
    let state = |volumes: &[Volume], pvc: &str| {
        volumes.iter().find(|volume| volume.pvc.name == pvc).map(|volume| volume.pvc_state)
    };
    let volumes = fixture.read(call(driver)).await.unwrap();
    assert_eq!(
        ["zigbee2mqtt", "home-assistant", "plex"].map(|pvc| state(&volumes, pvc)),
        [Some(PvcState::Terminating), Some(PvcState::Bound), None]
    );
    let volumes = fixture.read_granted(call(driver), Glob::new("media").unwrap()).await.unwrap();
    assert_eq!(state(&volumes, "zigbee2mqtt"), Some(PvcState::Unreadable));
    assert!(fixture.read(call("another.csi.driver")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_driver_is_found_from_its_class_or_name() {
    let find = |selector| FindDriver { selector, namespace: "rook-ceph".into() };
    let fixture = Fixture::new(Incident::Playbook);
    let by_class = fixture.read(find(Selector::StorageClass("ceph-block".into()))).await.unwrap();
    let by_name = fixture.read(find(Selector::Name(by_class.name.clone()))).await.unwrap();
    assert_eq!(by_class, by_name);
    let controller = by_class.controller.unwrap();
    assert_eq!(
        (controller.pods.len(), controller.snapshotter, controller.operator_managed),
        (controller.replicas as usize, true, false)
    );
    assert!(by_class.leases.len() >= 2 && by_class.ceph.unwrap().status.starts_with("HEALTH_"));
    assert!(matches!(
        fixture.read(find(Selector::StorageClass("none".into()))).await,
        Err(Error::NotFound(_))
    ));
    assert!(matches!(
        fixture.read(find(Selector::Name("none.example".into()))).await,
        Err(Error::NotFound(_))
    ));
    let fixture = Fixture::new(Incident::MissingSnapshotter);
    assert!(
        !fixture
            .read(find(Selector::StorageClass("ceph-block".into())))
            .await
            .unwrap()
            .controller
            .unwrap()
            .snapshotter
    );
}

#[tokio::test]
async fn lists_longer_than_a_page_are_complete() {
    let fixture = Fixture::new(Incident::Healthy);
    for number in 0..1100 {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("many-{number}"), "namespace": "ai",
            "labels": {"many": "yes"}}, "spec": {"containers": []}});
        assert!(fixture.simulator.insert(pod).unwrap());
    }
    let before = fixture.simulator.exchanges().len();
    let pods = fixture.read(ListPods { namespaces: namespaces(&["ai"]) }).await.unwrap();
    assert_eq!(pods.iter().filter(|pod| pod.name.starts_with("many-")).count(), 1100);
    assert_eq!(fixture.simulator.exchanges().len() - before, 3);
    fixture.simulator.fault(Fault::status(410).at("continue=").first(1));
    let again = fixture.read(ListPods { namespaces: namespaces(&["ai"]) }).await.unwrap();
    assert_eq!(again.len(), pods.len());
}

#[tokio::test]
async fn pages_of_a_log_neither_lose_nor_repeat_a_line() {
    let fixture = Fixture::new(Incident::Playbook);
    let found = fixture
        .read(FindDriver {
            selector: Selector::StorageClass("ceph-block".into()),
            namespace: "rook-ceph".into(),
        })
        .await
        .unwrap();
    let controller = found.controller.unwrap();
    let query = |limit_bytes, pattern: Option<&str>| Query {
        workload: Workload::deployment(controller.deployment.clone()),
        container: controller.plugin_container.clone(),
        since: None,
        tail_lines: None,
        limit_bytes,
        pattern: pattern.map(str::to_owned),
    };
    let once =
        fixture.read(NextPage { query: query(16 << 20, None), after: vec![] }).await.unwrap();
    assert_eq!(
        (once.pods.len(), once.more, once.unreadable.len()),
        (controller.pods.len(), false, 0)
    );
    assert!(once.lines.len() > 10, "{} lines", once.lines.len());
    let (mut all, mut after) = (Vec::new(), vec![]);
    loop {
        let page = fixture.read(NextPage { query: query(700, None), after }).await.unwrap();
        all.extend(page.lines);
        after = page.position;
        if !page.more {
            break;
        }
    }
    // The cluster keeps logging: the lines of the first read must appear once and in order.
    for pod in &once.pods {
        let of = |lines: &[salve_core::capability::tail_logs::Line]| {
            lines
                .iter()
                .filter(|line| &line.pod == pod)
                .map(|line| (line.time, line.text.clone()))
                .collect::<Vec<_>>()
        };
        let (first, paged) = (of(&once.lines), of(&all));
        assert_eq!(paged[..first.len()], first[..]);
    }
    let empty = fixture
        .read(NextPage {
            query: query(16 << 20, Some("no line is like this")),
            after: after.clone(),
        })
        .await
        .unwrap();
    assert!(empty.lines.is_empty() && empty.position.len() == controller.pods.len());
    assert!(matches!(
        fixture.read(NextPage { query: query(1, Some("(")), after: vec![] }).await,
        Err(Error::Invalid(_))
    ));
    // If a node is down, only the logs of its pods are missing, and their positions are kept.
    fixture.simulator.fault(Fault::status(500).at(&format!("{}/log", once.pods[0])).first(4));
    let half = fixture
        .read(NextPage { query: query(16 << 20, None), after: after.clone() })
        .await
        .unwrap();
    assert_eq!(
        (half.pods.len(), half.unreadable.len(), half.position.len()),
        (once.pods.len() - 1, 1, once.pods.len())
    );
    fixture.simulator.fault(Fault::status(403).at("/log"));
    assert!(matches!(
        fixture.read(NextPage { query: query(700, None), after: vec![] }).await,
        Err(Error::Forbidden(_))
    ));
}

/// Changes the controller's pods, and reads a page of their logs that matches nothing. Returns the
/// page, and whether it proves that there is no such line.
async fn page_after(change: impl FnOnce(&Fixture, &Controller)) -> (Page, bool) {
    let fixture = Fixture::new(Incident::Healthy);
    let selector = Selector::StorageClass("ceph-block".into());
    let driver = fixture.read(FindDriver { selector, namespace: "rook-ceph".into() }).await;
    let controller = driver.unwrap().controller.unwrap();
    change(&fixture, &controller);
    let query = Query {
        workload: Workload::deployment(controller.deployment.clone()),
        container: controller.plugin_container.clone(),
        since: None,
        tail_lines: None,
        limit_bytes: 16 << 20,
        pattern: Some("already exists".into()),
    };
    let call = NextPage { query, after: vec![] };
    let page = fixture.read(call.clone()).await.unwrap();
    let problem: Problem = serde_json::from_value(json!({
        "name": "locks",
        "read": {"capability": "tail-logs", "namespaces": ["*"]},
        "pattern": "already exists",
        "window": "1m",
    }))
    .unwrap();
    let evaluation = call.evaluate(&problem, &page, &[]);
    (page, evaluation.incomplete.is_none() && !evaluation.healthy.is_empty())
}

#[tokio::test]
async fn the_logs_of_any_workload_are_those_of_the_pods_that_it_controls() {
    let fixture = Fixture::new(Incident::Playbook);
    let workloads = [
        (WorkloadKind::DaemonSet, "apps/v1", "DaemonSet"),
        (WorkloadKind::StatefulSet, "apps/v1", "StatefulSet"),
        (WorkloadKind::Job, "batch/v1", "Job"),
    ];
    let pod = |name: &str, label: &str, owners: Value| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "ai", "labels": {"app": label},
                "ownerReferences": owners},
            "spec": {"nodeName": "node-1", "containers": [{"name": "plugin"}]}})
    };
    for (kind, version, label) in workloads {
        let name = label.to_lowercase();
        let workload = json!({"apiVersion": version, "kind": label,
            "metadata": {"name": name, "namespace": "ai"},
            "spec": {"selector": {"matchLabels": {"app": name}}}});
        assert!(fixture.simulator.insert(workload).unwrap());
        let (group, _) = version.split_once('/').unwrap();
        let workload = fixture.simulator.object(group, label, "ai", &name).unwrap();
        let owners = json!([{"apiVersion": version, "kind": label, "name": name,
            "uid": workload["metadata"]["uid"], "controller": true}]);
        assert!(fixture.simulator.insert(pod(&format!("{name}-own"), &name, owners)).unwrap());
        // The selector matches it too.
        assert!(fixture.simulator.insert(pod(&format!("{name}-x"), &name, json!([]))).unwrap());
        for pod in [format!("{name}-own"), format!("{name}-x")] {
            let running = |pod: &mut Value| pod["status"] = json!({"phase": "Running"});
            assert!(fixture.simulator.edit("", "pods", "ai", &pod, running));
        }
        for (kind, name, expected) in [
            (kind, name.clone(), format!("{name}-own")),
            (WorkloadKind::Pod, format!("{name}-x"), format!("{name}-x")),
        ] {
            let query = Query {
                workload: Workload::new(kind, ObjectRef::new("ai", name)),
                container: "plugin".into(),
                since: None,
                tail_lines: None,
                limit_bytes: 1 << 20,
                pattern: None,
            };
            let page = fixture.read(NextPage { query, after: vec![] }).await.unwrap();
            assert_eq!((page.pods, page.unreadable), (vec![expected], vec![]), "{kind:?}");
        }
    }
}

/// Adds a pod to the controller's ReplicaSet.
fn add_pod(fixture: &Fixture, controller: &Controller, spec: Value, status: Value) {
    let pod = &controller.pods[0];
    let mut pod = fixture.simulator.object("", "pods", &pod.namespace, &pod.name).unwrap();
    pod["metadata"] = json!({"name": "another", "namespace": "rook-ceph",
        "labels": pod["metadata"]["labels"], "ownerReferences": pod["metadata"]["ownerReferences"]});
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    assert!(fixture.simulator.insert(pod).unwrap());
    fixture.simulator.edit("", "pods", "rook-ceph", "another", |pod| pod["status"] = status);
}

#[tokio::test]
async fn a_pod_that_cannot_hold_a_lock_does_not_make_a_page_incomplete() {
    let lose_node = |fixture: &Fixture| {
        fixture.simulator.edit("", "nodes", "", "node-1", |node| {
            node["status"]["conditions"][0]["status"] = "Unknown".into();
        });
    };
    let finished = |phase: &'static str| {
        move |fixture: &Fixture, controller: &Controller| {
            add_pod(fixture, controller, json!({}), json!({"phase": phase, "reason": "Evicted"}))
        }
    };
    let waiting = |name: &str, last: Value| {
        json!({"phase": "Pending", "containerStatuses": [{"name": name, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff"}}, "lastState": last}]})
    };
    type Change = Box<dyn FnOnce(&Fixture, &Controller)>;
    let cases: Vec<(&str, Change, usize, &str, &str)> = vec![
        ("failed", Box::new(finished("Failed")), 2, "", ""),
        ("succeeded", Box::new(finished("Succeeded")), 2, "", ""),
        (
            "unscheduled",
            Box::new(|fixture, controller| {
                let status = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled",
                    "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]});
                add_pod(fixture, controller, json!({"nodeName": null}), status)
            }),
            2,
            "another: not started: Unschedulable: 0/1 nodes",
            "",
        ),
        (
            "its image cannot be pulled",
            Box::new(move |fixture, controller| {
                let status = waiting(&controller.plugin_container, json!({}));
                add_pod(fixture, controller, json!({}), status)
            }),
            2,
            "is waiting to start",
            "",
        ),
        (
            "a node became unreachable: the container may still run",
            Box::new(move |fixture, _| {
                lose_node(fixture);
                fixture.simulator.clock().advance(Duration::from_secs(120));
            }),
            1,
            "",
            "i/o timeout",
        ),
        (
            "its pod was evicted just now",
            Box::new(move |fixture, _| {
                lose_node(fixture);
                fixture.simulator.clock().advance(Duration::from_secs(320));
            }),
            2,
            "",
            "i/o timeout",
        ),
        (
            "its pod should have ended long ago",
            Box::new(move |fixture, _| {
                lose_node(fixture);
                fixture.simulator.clock().advance(Duration::from_secs(600));
            }),
            2,
            "its grace period ended 4 min ago; is node node-1 down?",
            "",
        ),
        (
            "a terminating pod that can be read",
            Box::new(|fixture, controller| {
                let name = &controller.pods[0].name;
                fixture.simulator.remove("", "pods", "rook-ceph", name);
            }),
            2,
            "",
            "",
        ),
    ];
    for (case, change, read, skipped, unreadable) in cases {
        let (page, proves_absence) = page_after(change).await;
        assert_eq!(page.pods.len(), read, "{case}: {page:?}");
        for (found, expected) in [(&page.skipped, skipped), (&page.unreadable, unreadable)] {
            assert_eq!(found.is_empty(), expected.is_empty(), "{case}: {page:?}");
            assert!(found.iter().all(|why| why.contains(expected)), "{case}: {page:?}");
        }
        assert_eq!(proves_absence, unreadable.is_empty(), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_takes_too_long_is_requested_again_with_half_the_size() {
    let requests = |fixture: &Fixture| -> Vec<usize> {
        let log_of = |exchange: &Exchange| {
            let (_, limit) = exchange.uri.split_once("/log?")?.1.split_once("limitBytes=")?;
            limit.split('&').next()?.parse().ok()
        };
        let mut sizes: Vec<_> = fixture.simulator.exchanges().iter().filter_map(log_of).collect();
        sizes.sort_unstable();
        sizes.reverse();
        sizes
    };
    let mebibytes = |sizes: &[usize]| sizes.iter().map(|size| size << 20).collect::<Vec<_>>();
    let read = async |slow: &str| {
        let fixture = Fixture::new(Incident::Playbook);
        let selector = Selector::StorageClass("ceph-block".into());
        let driver = fixture.read(FindDriver { selector, namespace: "rook-ceph".into() }).await;
        let controller = driver.unwrap().controller.unwrap();
        fixture.simulator.fault(Fault::no_response().at(slow));
        let query = Query {
            workload: Workload::deployment(controller.deployment),
            container: controller.plugin_container,
            since: None,
            tail_lines: None,
            limit_bytes: 16 << 20,
            pattern: None,
        };
        let page = fixture.read(NextPage { query, after: vec![] }).await.unwrap();
        (page, requests(&fixture))
    };
    let (page, sizes) = read("limitBytes=16777216").await;
    assert!(page.unreadable.is_empty() && page.lines.len() > 10, "{page:?}");
    assert_eq!(sizes, mebibytes(&[16, 16, 8, 8]));
    let (page, sizes) = read("/log?").await;
    assert!(page.unreadable.iter().all(|why| why.contains("no response within")), "{page:?}");
    assert_eq!((page.unreadable.len(), page.pods.len()), (2, 0));
    assert_eq!(sizes, mebibytes(&[16, 16, 8, 8, 4, 4, 2, 2]));
}

#[tokio::test]
async fn the_identity_of_the_cluster_and_the_user_is_read() {
    let fixture = Fixture::new(Incident::Healthy);
    let identity = fixture.read(GetIdentity {}).await.unwrap();
    assert_eq!(
        (identity.uid.as_deref(), identity.user.as_deref()),
        (Some("0c0c0c0c-1111-4222-8333-444444444444"), Some("simulated-admin"))
    );
    assert!(identity.version.starts_with('v'));
    let fixture = Fixture::new(Incident::Healthy);
    fixture.simulator.fault(Fault::status(403).at("kube-system"));
    assert_eq!(fixture.read(GetIdentity {}).await.unwrap().uid, None);
}

#[tokio::test]
async fn objects_of_served_kinds_are_returned_as_json() {
    let fixture = Fixture::new(Incident::Healthy);
    let kind =
        |group: &str, resource: &str| Kind { group: group.into(), resource: resource.into() };
    let list = |kind, namespace: Option<&str>| ListObjects {
        kind,
        namespace: namespace.map(str::to_owned),
        label_selector: None,
        limit: 2,
        next: None,
    };
    let page = fixture.read(list(kind("", "namespaces"), None)).await.unwrap();
    assert!(
        page.objects.len() == 2
            && page.next.is_some()
            && !page.objects[0].contains("managedFields")
    );
    let next = fixture
        .read(ListObjects { next: page.next, ..list(kind("", "namespaces"), None) })
        .await
        .unwrap();
    assert_ne!(next.objects[0], page.objects[0]);
    let one = fixture
        .read(GetObject {
            kind: kind("apps", "deployments"),
            namespace: Some("volsync-system".into()),
            name: "volsync".into(),
        })
        .await
        .unwrap();
    assert!(one.contains("\"kind\":\"Deployment\""));
    assert!(matches!(
        fixture.read(list(kind("", "namespaces"), Some("media"))).await,
        Err(Error::Invalid(_))
    ));
    assert!(matches!(fixture.read(list(kind("", "pods"), None)).await, Err(Error::Invalid(_))));
    assert!(matches!(
        fixture.read(list(kind("", "secrets"), Some("media"))).await,
        Err(Error::Invalid(_))
    ));
    assert!(matches!(
        fixture.read(list(kind("example.org", "things"), None)).await,
        Err(Error::NotFound(_))
    ));
}

#[tokio::test]
async fn rejections_are_attributed_by_status_code() {
    let fixture = Fixture::new(Incident::Playbook);
    fixture.simulator.fault(Fault::status(403).at("/namespaces/media/persistentvolumeclaims"));
    let error =
        fixture.read(ListPvcs { namespaces: namespaces(&["media", "ai"]) }).await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Forbidden(text)
                if text.contains("list persistentvolumeclaims media/*") && text.contains("RBAC")
        ),
        "{error}"
    );
    let fixture = Fixture::new(Incident::Playbook);
    fixture.simulator.fault(Fault::status(401));
    let error = fixture.read(ListPvcs { namespaces: namespaces(&["media"]) }).await.unwrap_err();
    assert!(matches!(&error, Error::Unauthorized(text) if text.contains("credentials")), "{error}");
    let fixture = Fixture::new(Incident::Playbook);
    fixture.simulator.uninstall("volsync.backube");
    let error = fixture.read(ListSources { namespaces: namespaces(&["media"]) }).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound(text) if text.contains("VolSync")), "{error}");
    let fixture = Fixture::new(Incident::Playbook);
    fixture.simulator.fault(Fault::too_many_requests(2).first(3));
    assert!(fixture.read(ListPods { namespaces: namespaces(&["media"]) }).await.is_ok());
}
