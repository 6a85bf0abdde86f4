//! Which requests are retried, tested with scripted responses.

use super::*;
use crate::object;
use crate::resource::{PERSISTENT_VOLUMES, PVCS};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Response;
use salve_core::Millis;
use salve_core::capability::delete_replicationsources as deletion;
use salve_core::capability::types::ObjectRef;
use salve_core::capability::{TypedCall as _, query_pvcs};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;

/// A clock that is only advanced by sleeping.
#[derive(Default)]
struct Virtual(AtomicU64);

impl Clock for Virtual {
    fn now(&self) -> Millis {
        self.0.load(Ordering::SeqCst)
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.fetch_add(duration.as_millis() as u64, Ordering::SeqCst);
        std::future::ready(()).boxed()
    }
}

type Reply = Result<(u16, Option<&'static str>, Value), std::io::ErrorKind>;

/// Returns a cluster that sends these responses in order, its clock, and the recorded requests.
fn scripted(replies: Vec<Reply>) -> (Cluster, Arc<Virtual>, Arc<Mutex<Vec<String>>>) {
    let (clock, seen) = (Arc::new(Virtual::default()), Arc::new(Mutex::new(Vec::new())));
    let (replies, log) = (Arc::new(Mutex::new(replies.into_iter())), seen.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        log.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
        let reply = replies.lock().unwrap().next().expect("a scripted response for each request");
        async move {
            let (code, retry_after, body) = reply.map_err(std::io::Error::from)?;
            let mut response = Response::builder().status(code);
            if let Some(seconds) = retry_after {
                response = response.header("retry-after", seconds);
            }
            let text = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
            Ok::<_, std::io::Error>(
                response.body(http_body_util::Full::new(Bytes::from(text))).unwrap(),
            )
        }
    });
    (Cluster::over(service, clock.clone(), "script"), clock, seen)
}

fn pvcs() -> Footprint {
    Footprint::new(&query_pvcs::ListPvcs { namespaces: vec!["media".into()] }.effect(), vec![])
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

fn sources() -> Resource {
    Resource {
        group: "volsync.backube".into(),
        version: "v1alpha1".into(),
        plural: "replicationsources".into(),
        kind: "".into(),
        namespaced: true,
    }
}

fn empty() -> Value {
    json!({"kind": "List", "metadata": {}, "items": []})
}

#[tokio::test]
async fn a_busy_api_server_is_retried_after_the_requested_delay() {
    let (cluster, clock, seen) = scripted(vec![
        Ok((429, Some("7"), json!({}))),
        Ok((503, Some("2"), json!({}))),
        Ok((200, None, empty())),
    ]);
    Session::new(&cluster, &pvcs())
        .list(&PERSISTENT_VOLUMES, None, ListFilter::default())
        .await
        .unwrap();
    assert_eq!((seen.lock().unwrap().len(), clock.now()), (3, 9_000));
}

#[tokio::test]
async fn a_read_fails_after_four_attempts() {
    let (cluster, clock, seen) =
        scripted((0..4).map(|_| Ok((500, None, json!({"message": "etcd is away"})))).collect());
    let error: Error = Session::new(&cluster, &pvcs())
        .list(&PERSISTENT_VOLUMES, None, ListFilter::default())
        .await
        .err()
        .unwrap()
        .into();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("etcd is away")), "{error}");
    assert_eq!((seen.lock().unwrap().len(), clock.now()), (4, 250 + 1000 + 4000));
}

#[tokio::test]
async fn a_write_with_a_lost_response_is_sent_once() {
    for reply in [
        Ok((504, None, json!({}))),
        Ok((500, None, json!({}))),
        Ok((503, None, json!({}))),
        Ok((200, None, json!("<html>"))),
        Err(std::io::ErrorKind::ConnectionReset),
    ] {
        let (cluster, _, seen) = scripted(vec![reply]);
        let failure = Session::new(&cluster, &delete())
            .delete(&sources(), "media", "sonarr", "u", Some("1"))
            .await
            .err()
            .unwrap();
        assert!(failure.is_in_doubt(), "{failure:?}");
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_write_that_was_not_sent_is_retried() {
    let (cluster, _, seen) = scripted(vec![
        Err(std::io::ErrorKind::ConnectionRefused),
        Ok((429, None, json!({}))),
        Ok((200, None, json!({}))),
    ]);
    Session::new(&cluster, &delete())
        .delete(&sources(), "media", "sonarr", "u", Some("1"))
        .await
        .unwrap();
    assert_eq!(seen.lock().unwrap().len(), 3);
}

fn absent(name: &str, kind: Option<&str>) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{name} not found"), "reason": "NotFound", "code": 404,
        "details": {"name": name, "group": "volsync.backube", "kind": kind}})
}

#[tokio::test]
async fn a_404_counts_only_if_it_names_the_object() {
    let with = |pointer: &str, value: Value| {
        let mut status = absent("sonarr", Some("replicationsources"));
        *status.pointer_mut(pointer).unwrap() = value;
        status
    };
    for (body, counts) in [
        (absent("sonarr", Some("replicationsources")), true),
        (absent("sonarr", None), true),
        (json!("404 page not found"), false),
        (json!(""), false),
        (json!([]), false),
        (json!({"type": "error", "status": 404, "message": "No cluster available"}), false),
        (with("/details", json!({})), false),
        (with("/details", Value::Null), false),
        (with("/details/name", "radarr".into()), false),
        (with("/details/kind", "clusters".into()), false),
        (with("/reason", "Expired".into()), false),
        (with("/kind", "Error".into()), false),
    ] {
        let replies = || (0..4).map(|_| Ok((404, None, body.clone()))).collect();
        let (cluster, _, seen) = scripted(replies());
        let found = Session::new(&cluster, &delete())
            .find(&sources(), Some("media"), "sonarr")
            .await
            .map_err(Error::from);
        match found {
            Ok(found) => assert!(counts && found.is_none(), "{body}"),
            Err(Error::Unavailable(text)) => assert!(
                !counts
                    && text.contains("something between Salve and the API server answered")
                    && seen.lock().unwrap().len() == 4,
                "{body}: {text}"
            ),
            Err(other) => panic!("{body}: {other:?}"),
        }
        let (cluster, _, seen) = scripted(replies());
        let failure = Session::new(&cluster, &delete())
            .delete(&sources(), "media", "sonarr", "u", Some("1"))
            .await
            .err()
            .unwrap();
        assert_eq!((failure.is_absent(), failure.is_in_doubt()), (counts, !counts), "{body}");
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_missing_object_needs_two_responses_to_be_believed() {
    let gone = || Ok((404, None, absent("sonarr", Some("replicationsources"))));
    let there = || Ok((200, None, json!({"metadata": {"name": "sonarr"}})));
    for (replies, found) in
        [(vec![gone(), there()], true), (vec![gone(), gone()], false), (vec![there()], true)]
    {
        let requests = replies.len();
        let (cluster, _, seen) = scripted(replies);
        let object = Session::new(&cluster, &delete())
            .find(&sources(), Some("media"), "sonarr")
            .await
            .unwrap();
        assert_eq!((object.is_some(), seen.lock().unwrap().len()), (found, requests));
    }
}

#[tokio::test]
async fn an_expired_list_is_restarted() {
    let page = |names: &[&str], next: Option<&str>| {
        json!({"metadata": {"continue": next},
        "items": names.iter().map(|n| json!({"metadata": {"name": n}})).collect::<Vec<_>>()})
    };
    let replies = vec![
        Ok((200, None, page(&["a"], Some("x&y")))),
        Ok((410, None, json!({}))),
        Ok((200, None, page(&["a"], Some("z")))),
        Ok((200, None, page(&["b"], None))),
    ];
    let (cluster, _, seen) = scripted(replies);
    let all = Session::new(&cluster, &pvcs())
        .list(&PVCS, Some("media"), ListFilter::default())
        .await
        .unwrap();
    assert_eq!(all.iter().map(object::name).collect::<Vec<_>>(), ["a", "b"]);
    let seen = seen.lock().unwrap();
    assert!(seen[1].ends_with("persistentvolumeclaims?limit=500&continue=x%26y"), "{seen:?}");
    assert!(seen.iter().all(|uri| !uri.contains("resourceVersion")));
}

#[tokio::test]
async fn a_request_outside_the_footprint_is_not_sent() {
    let (cluster, _, seen) = scripted(vec![]);
    let error: Error = Session::new(&cluster, &pvcs())
        .list(&PVCS, Some("other"), ListFilter::default())
        .await
        .err()
        .unwrap()
        .into();
    assert!(matches!(&error, Error::Invalid(text) if text.contains("internal error")), "{error}");
    assert!(seen.lock().unwrap().is_empty());
}

/// The output of a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_attempt_is_logged_without_query_body_or_headers() {
    let log = Log::default();
    let writer = log.clone();
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .with_filter(Targets::new().with_target("salve_kubernetes", LevelFilter::DEBUG));
    let subscriber = tracing_subscriber::registry().with(layer);
    let _guard = tracing::subscriber::set_default(subscriber);
    let (cluster, _, _) = scripted(vec![
        Ok((500, Some("7"), json!({"message": "canary"}))),
        Err(std::io::ErrorKind::ConnectionRefused),
        Ok((200, None, json!({"metadata": {}, "items": [{"data": "canary"}]}))),
    ]);
    let filter = ListFilter { labels: Some("app=canary"), fields: None };
    Session::new(&cluster, &pvcs()).list(&PVCS, Some("media"), filter).await.unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!log.contains("canary"), "{log}");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    for (line, expected) in lines.iter().zip([
        ["status=500", "attempt=1"],
        ["failure=\"connection refused\"", "attempt=2"],
        ["status=200", "attempt=3"],
    ]) {
        for part in expected.into_iter().chain([
            "effect=\"query-pvcs.list-pvcs\"",
            "method=GET",
            "path=\"/api/v1/namespaces/media/persistentvolumeclaims\"",
            "duration_ms=",
        ]) {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
