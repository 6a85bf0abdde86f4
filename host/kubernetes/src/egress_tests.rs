//! Which requests the egress guard lets pass, and which it blocks.

use super::*;
use salve_core::capability::types::{FluxKind, FluxRef, ObjectRef};
use salve_core::capability::{
    TypedCall, delete_replicationsources as deletion, query_pvcs, suspend_flux, tail_logs,
};
use salve_core::glob::Glob;
use serde_json::json;

const PLEX: &str = "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/media/kustomizations/plex";
const SONARR: &str = "/apis/volsync.backube/v1alpha1/namespaces/media/replicationsources/sonarr";

fn pvcs() -> Footprint {
    Footprint::new(&query_pvcs::ListPvcs { namespaces: vec!["media".into()] }.effect(), vec![])
}

fn suspend() -> Footprint {
    let target =
        FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: "plex".into() };
    Footprint::new(
        &suspend_flux::Suspend { targets: vec![target], reason: String::new(), drain_seconds: 0 }
            .effect(),
        vec![],
    )
}

fn delete() -> Footprint {
    let target = deletion::DeletionTarget {
        object: ObjectRef::new("media", "sonarr"),
        uid: "u".into(),
        digest: "d".into(),
        reason: String::new(),
    };
    Footprint::new(
        &deletion::Delete {
            set: vec![target],
            pacing: deletion::Pacing { batch_size: 1, interval_ms: 0 },
        }
        .effect(),
        vec![],
    )
}

fn logs() -> Footprint {
    let query = tail_logs::Query {
        workload: tail_logs::Workload::deployment(ObjectRef::new("media", "plex")),
        container: "app".into(),
        since: None,
        tail_lines: None,
        limit_bytes: 1,
        pattern: None,
    };
    Footprint::new(&tail_logs::NextPage { query, after: vec![] }.effect(), vec![])
}

fn passes(
    footprint: Option<Footprint>,
    method: &str,
    uri: &str,
    body: Value,
) -> Result<(), Blocked> {
    passes_as("application/merge-patch+json", footprint, method, uri, body)
}

fn passes_as(
    media: &str,
    footprint: Option<Footprint>,
    method: &str,
    uri: &str,
    body: Value,
) -> Result<(), Blocked> {
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).unwrap() };
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", media)
        .body(Body::from(body))
        .unwrap();
    if let Some(footprint) = footprint {
        request.extensions_mut().insert(Arc::new(footprint));
    }
    check_request(&request)
}

fn get(footprint: Footprint, uri: &str) -> Result<(), Blocked> {
    passes(Some(footprint), "GET", uri, Value::Null)
}

#[test]
fn a_request_without_a_footprint_is_blocked() {
    assert!(matches!(
        passes(None, "GET", "/api/v1/namespaces/media/persistentvolumeclaims", Value::Null),
        Err(Blocked::NoFootprint(_))
    ));
    assert!(matches!(passes(None, "GET", "/version", Value::Null), Err(Blocked::NoFootprint(_))));
}

#[test]
fn a_read_reaches_only_what_its_footprint_names() {
    assert!(get(pvcs(), "/api/v1/namespaces/media/persistentvolumeclaims?limit=500").is_ok());
    assert!(get(pvcs(), "/api/v1/persistentvolumes").is_ok());
    assert!(get(pvcs(), "/apis/storage.k8s.io/v1/storageclasses").is_ok());
    for outside in [
        "/api/v1/namespaces/other/persistentvolumeclaims",
        "/api/v1/persistentvolumeclaims",
        "/api/v1/namespaces/media/secrets",
        "/api/v1/namespaces/media/secrets/a",
        "/api/v1/namespaces/media/persistentvolumeclaims?watch=true",
        "/api/v1/namespaces/media/persistentvolumeclaims?limit=1&watch",
        "/api/v1/namespaces/media/persistentvolumeclaims/a/status",
    ] {
        assert!(matches!(get(pvcs(), outside), Err(Blocked::OutsideFootprint(_))), "{outside}");
    }
}

#[test]
fn malformed_paths_are_blocked() {
    for trick in [
        "/api/v1/namespaces/media/../other/persistentvolumeclaims",
        "/api/v1/namespaces/media/./persistentvolumeclaims",
        "/api/v1/namespaces/media//persistentvolumeclaims",
        "/api/v1/namespaces/media/persistentvolumeclaims/",
        "//api/v1/namespaces/media/persistentvolumeclaims",
        "/api/v1/namespaces/media%2Fsecrets/persistentvolumeclaims",
        "/api/v1/namespaces/media/%70ersistentvolumeclaims",
        "/api/v1/namespaces/media;x/persistentvolumeclaims",
        "/API/v1/namespaces/media/persistentvolumeclaims",
        "/api/v1/namespaces/media/persistentvolumeclaims/a/b/c",
        "/api/v2/namespaces/media/persistentvolumeclaims",
        "/openapi/v3",
        "/metrics",
        "/logs/",
        "/",
        "",
    ] {
        let uri = if trick.is_empty() { "http://server" } else { trick };
        assert!(matches!(get(pvcs(), uri), Err(Blocked::Forbidden(_))), "{trick}");
    }
    for old in [
        "/api/v1/watch/namespaces/media/persistentvolumeclaims",
        "/api/v1/proxy/namespaces/media/pods/a",
    ] {
        assert!(get(pvcs(), old).is_err(), "{old}");
    }
}

#[test]
fn discovery_is_read_only() {
    for path in [
        "/version",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/volsync.backube",
        "/apis/volsync.backube/v1alpha1",
    ] {
        assert!(get(pvcs(), path).is_ok(), "{path}");
        assert!(passes(Some(pvcs()), "POST", path, json!({})).is_err(), "{path}");
    }
}

#[test]
fn a_subresource_is_not_covered_by_its_resource() {
    assert!(get(logs(), "/api/v1/namespaces/media/pods/plex-0/log?container=app").is_ok());
    for other in ["exec", "attach", "portforward", "proxy", "eviction", "ephemeralcontainers"] {
        assert!(
            get(logs(), &format!("/api/v1/namespaces/media/pods/plex-0/{other}")).is_err(),
            "{other}"
        );
    }
    assert!(
        passes(Some(logs()), "POST", "/api/v1/namespaces/media/pods/plex-0/log", json!({}))
            .is_err()
    );
}

#[test]
fn a_patch_is_limited_to_its_object_and_fields_and_names_the_uid() {
    let ours = json!({"metadata": {"uid": "u", "resourceVersion": "1"}, "spec": {"suspend": true}});
    assert!(
        passes(Some(suspend()), "PATCH", &format!("{PLEX}?fieldManager=salve"), ours.clone())
            .is_ok()
    );
    assert!(matches!(
        passes(Some(suspend()), "PATCH", &format!("{PLEX}x"), ours.clone()),
        Err(Blocked::OutsideFootprint(_))
    ));
    assert!(matches!(
        passes(Some(suspend()), "PATCH", &format!("{PLEX}/status"), ours.clone()),
        Err(Blocked::OutsideFootprint(_))
    ));
    assert!(matches!(
        passes(
            Some(suspend()),
            "PATCH",
            PLEX,
            json!({"metadata": {"uid": "u"}, "spec": {"path": "x"}})
        ),
        Err(Blocked::OutsideFootprint(_))
    ));
    assert!(matches!(
        passes(Some(suspend()), "PATCH", PLEX, json!({"spec": {"suspend": true}})),
        Err(Blocked::Forbidden(_))
    ));
    for media in [
        "application/json-patch+json",
        "application/apply-patch+yaml",
        "application/strategic-merge-patch+json",
    ] {
        assert!(
            matches!(
                passes_as(media, Some(suspend()), "PATCH", PLEX, ours.clone()),
                Err(Blocked::Forbidden(_))
            ),
            "{media}"
        );
    }
    assert!(matches!(passes(Some(suspend()), "PUT", PLEX, ours), Err(Blocked::Forbidden(_))));
}

#[test]
fn a_deletion_needs_a_uid_precondition_and_a_single_object() {
    let by_uid = json!({"kind": "DeleteOptions", "apiVersion": "v1",
        "preconditions": {"uid": "u", "resourceVersion": "1"}, "propagationPolicy": "Background"});
    assert!(passes(Some(delete()), "DELETE", SONARR, by_uid.clone()).is_ok());
    for blind in [
        Value::Null,
        json!({}),
        json!({"preconditions": {"resourceVersion": "1"}}),
        json!({"preconditions": {"uid": ""}}),
    ] {
        assert!(
            matches!(
                passes(Some(delete()), "DELETE", SONARR, blind.clone()),
                Err(Blocked::Forbidden(_))
            ),
            "{blind}"
        );
    }
    let collection = SONARR.trim_end_matches("/sonarr");
    assert!(matches!(
        passes(Some(delete()), "DELETE", collection, by_uid.clone()),
        Err(Blocked::Forbidden(_))
    ));
    assert!(matches!(
        passes(
            Some(delete()),
            "DELETE",
            &format!("{SONARR}?propagationPolicy=Orphan"),
            by_uid.clone()
        ),
        Err(Blocked::Forbidden(_))
    ));
    assert!(matches!(
        passes(Some(delete()), "DELETE", &format!("{collection}/plex"), by_uid),
        Err(Blocked::OutsideFootprint(_))
    ));
}

#[test]
fn a_subresource_of_a_namespace_is_not_an_object_in_it() {
    let uri: Uri = "/api/v1/namespaces/media/status".parse().unwrap();
    let of_namespace = RequestPath::Objects {
        group: "",
        resource: "namespaces",
        subresource: Some("status"),
        namespace: None,
        name: Some("media"),
    };
    assert_eq!(parse_path(&uri), Some(of_namespace));
    let uri: Uri = "/api/v1/namespaces/media".parse().unwrap();
    assert_eq!(
        parse_path(&uri),
        Some(RequestPath::Objects {
            group: "",
            resource: "namespaces",
            subresource: None,
            namespace: None,
            name: Some("media")
        })
    );
}

#[test]
fn a_token_can_only_be_requested_for_the_named_service_account() {
    let token = || {
        Footprint::new(
            &salve_core::capability::host::RequestToken {
                namespace: "salve".into(),
                name: "guest".into(),
                seconds: 600,
            }
            .effect(),
            vec![],
        )
    };
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": 600}});
    let call = |path: &str, body: Value| passes(Some(token()), "POST", path, body);
    assert!(call("/api/v1/namespaces/salve/serviceaccounts/guest/token", request.clone()).is_ok());
    for other in [
        "/api/v1/namespaces/salve/serviceaccounts/admin/token",
        "/api/v1/namespaces/kube-system/serviceaccounts/guest/token",
        "/api/v1/namespaces/salve/serviceaccounts/guest/exec",
        "/api/v1/namespaces/salve/serviceaccounts/guest",
        "/api/v1/namespaces/salve/serviceaccounts",
    ] {
        assert!(call(other, request.clone()).is_err(), "{other}");
    }
    let more = json!({"apiVersion": "v1", "kind": "TokenRequest", "spec": {},
        "metadata": {"finalizers": ["x"]}});
    assert!(call("/api/v1/namespaces/salve/serviceaccounts/guest/token", more).is_err());
    assert!(get(token(), "/api/v1/namespaces/salve/serviceaccounts/guest").is_err());
}

#[test]
fn an_ungranted_namespace_is_distinguished_from_an_internal_error() {
    let target =
        FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: "plex".into() };
    let footprint = Footprint::new(
        &salve_core::capability::query_flux::GetFluxObject { target }.effect(),
        vec![Glob::new("flux-*").unwrap()],
    );
    assert!(
        get(
            footprint.clone(),
            "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/flux-system/kustomizations/apps"
        )
        .is_ok()
    );
    let blocked = get(
        footprint,
        "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/private/kustomizations/apps",
    );
    assert!(matches!(blocked, Err(Blocked::OutsideFootprint(breach)) if breach.ungranted));
}
