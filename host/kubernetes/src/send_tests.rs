//! What is sent again and what is not, against a service that answers from a script.

use super::*;
use crate::resource::{CLAIMS, VOLUMES};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Response;
use salve_core::Millis;
use salve_core::effect::delete_replicationsources as deletion;
use salve_core::effect::shared::ObjectRef;
use salve_core::effect::{TypedCall as _, query_pvcs};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A clock that only moves by sleeping.
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

/// A cluster that gives these answers in order and keeps the URIs that it was asked for.
fn scripted(replies: Vec<Reply>) -> (Cluster, Arc<Virtual>, Arc<Mutex<Vec<String>>>) {
    let (clock, seen) = (Arc::new(Virtual::default()), Arc::new(Mutex::new(Vec::new())));
    let (replies, log) = (Arc::new(Mutex::new(replies.into_iter())), seen.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        log.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
        let reply = replies.lock().unwrap().next().expect("no more requests than answers");
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

fn terminating() -> Footprint {
    let frozen = deletion::DeletionTarget {
        object: ObjectRef::new("media", "sonarr"),
        uid: "u".into(),
        digest: "d".into(),
        reason: String::new(),
    };
    Footprint::new(
        &deletion::Delete {
            set: vec![frozen],
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
async fn a_busy_api_server_is_asked_again_when_it_says() {
    let (cluster, clock, seen) = scripted(vec![
        Ok((429, Some("7"), json!({}))),
        Ok((503, Some("2"), json!({}))),
        Ok((200, None, empty())),
    ]);
    Session::new(&cluster, &pvcs()).list(&VOLUMES, None, Narrow::default()).await.unwrap();
    assert_eq!((seen.lock().unwrap().len(), clock.now()), (3, 9_000));
}

#[tokio::test]
async fn a_read_gives_up_after_four_tries() {
    let (cluster, clock, seen) =
        scripted((0..4).map(|_| Ok((500, None, json!({"message": "etcd is away"})))).collect());
    let error: Error = Session::new(&cluster, &pvcs())
        .list(&VOLUMES, None, Narrow::default())
        .await
        .err()
        .unwrap()
        .into();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("etcd is away")), "{error}");
    assert_eq!((seen.lock().unwrap().len(), clock.now()), (4, 250 + 1000 + 4000));
}

#[tokio::test]
async fn a_write_whose_answer_got_lost_is_sent_once() {
    for reply in [
        Ok((504, None, json!({}))),
        Ok((500, None, json!({}))),
        Ok((503, None, json!({}))),
        Ok((200, None, json!("<html>"))),
        Err(std::io::ErrorKind::ConnectionReset),
    ] {
        let (cluster, _, seen) = scripted(vec![reply]);
        let failure = Session::new(&cluster, &terminating())
            .delete(&sources(), "media", "sonarr", "u", Some("1"))
            .await
            .err()
            .unwrap();
        assert!(failure.is_lost(), "{failure:?}");
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_write_that_never_left_is_sent_again() {
    let (cluster, _, seen) = scripted(vec![
        Err(std::io::ErrorKind::ConnectionRefused),
        Ok((429, None, json!({}))),
        Ok((200, None, json!({}))),
    ]);
    Session::new(&cluster, &terminating())
        .delete(&sources(), "media", "sonarr", "u", Some("1"))
        .await
        .unwrap();
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn that_an_object_is_gone_is_believed_when_it_is_said_twice() {
    let gone = || Ok((404, None, json!({"message": "not found"})));
    let there = || Ok((200, None, json!({"metadata": {"name": "sonarr"}})));
    for (replies, found) in
        [(vec![gone(), there()], true), (vec![gone(), gone()], false), (vec![there()], true)]
    {
        let asked = replies.len();
        let (cluster, _, seen) = scripted(replies);
        let object = Session::new(&cluster, &terminating())
            .find(&sources(), Some("media"), "sonarr")
            .await
            .unwrap();
        assert_eq!((object.is_some(), seen.lock().unwrap().len()), (found, asked));
    }
}

#[tokio::test]
async fn a_list_that_expired_is_begun_again() {
    let page = |names: &[&str], next: Option<&str>| json!({"metadata": {"continue": next}, "items": names.iter().map(|n| json!({"metadata": {"name": n}})).collect::<Vec<_>>()});
    let replies = vec![
        Ok((200, None, page(&["a"], Some("x&y")))),
        Ok((410, None, json!({}))),
        Ok((200, None, page(&["a"], Some("z")))),
        Ok((200, None, page(&["b"], None))),
    ];
    let (cluster, _, seen) = scripted(replies);
    let all = Session::new(&cluster, &pvcs())
        .list(&CLAIMS, Some("media"), Narrow::default())
        .await
        .unwrap();
    assert_eq!(all.iter().map(object::name).collect::<Vec<_>>(), ["a", "b"]);
    let seen = seen.lock().unwrap();
    assert!(seen[1].ends_with("persistentvolumeclaims?limit=500&continue=x%26y"), "{seen:?}");
    assert!(seen.iter().all(|uri| !uri.contains("resourceVersion")));
}

#[tokio::test]
async fn what_leaves_the_footprint_is_not_sent() {
    let (cluster, _, seen) = scripted(vec![]);
    let error: Error = Session::new(&cluster, &pvcs())
        .list(&CLAIMS, Some("other"), Narrow::default())
        .await
        .err()
        .unwrap()
        .into();
    assert!(matches!(&error, Error::Invalid(text) if text.contains("Salve itself")), "{error}");
    assert!(seen.lock().unwrap().is_empty());
}
