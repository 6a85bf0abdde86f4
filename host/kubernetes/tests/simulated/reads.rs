//! Reads: what they return for the playbook's incident, and how they fail.

use crate::fixture::Fixture;
use salve_core::capability::host::GetIdentity;
use salve_core::capability::query_drivers::{FindDriver, Selector};
use salve_core::capability::query_flux::{FindOwners, Ownership, Subject, SubjectKind};
use salve_core::capability::query_objects::{GetObject, ListObjects};
use salve_core::capability::query_pods::ListPods;
use salve_core::capability::query_pvcs::{ListPvcs, ListSnapshots, Phase, Waiting};
use salve_core::capability::query_replicationsources::{Health, ListDestinations, ListSources};
use salve_core::capability::tail_logs::{NextPage, Query};
use salve_core::capability::types::Kind;
use salve_core::capability::types::ObjectRef;
use salve_core::outcome::Error;
use salve_simulator::{Fault, Incident};
use serde_json::json;

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
        deployment: controller.deployment.clone(),
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
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("credentials")), "{error}");
    let fixture = Fixture::new(Incident::Playbook);
    fixture.simulator.fault(Fault::status(404).at("/apis/volsync.backube"));
    let error = fixture.read(ListSources { namespaces: namespaces(&["media"]) }).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound(text) if text.contains("VolSync")), "{error}");
    let fixture = Fixture::new(Incident::Playbook);
    fixture.simulator.fault(Fault::too_many_requests(2).first(3));
    assert!(fixture.read(ListPods { namespaces: namespaces(&["media"]) }).await.is_ok());
}
