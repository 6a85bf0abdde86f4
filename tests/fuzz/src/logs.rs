use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Response, Uri};
use http_body_util::Full;
use jiff::{Timestamp, ToSpan};
use salve_core::Millis;
use salve_core::effect::shared::ObjectRef;
use salve_core::effect::tail_logs::{Line, NextPage, Query};
use salve_core::effect::{Answer, Effect, TypedCall};
use salve_core::footprint::Footprint;
use salve_core::outcome::Error;
use salve_kubernetes::{Cluster, ClusterBackend};
use salve_run::{Backend, Clock};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// More pages than bytes are no progress.
const PAGES: usize = 5000;

/// A log, its pages and its filter. The first byte is a page's size, the second says what else; the rest are lines.
///
/// A well-formed log comes whole and in order, whatever the size of a page; any other bytes come to an end.
pub fn logs(bytes: &[u8]) {
    let [size, mode, lines @ ..] = bytes else { return };
    let pattern = (mode & 1 != 0).then_some("lock|[0-9]+");
    let query = Query {
        deployment: ObjectRef::new("rook-ceph", "csi"),
        container: "csi-provisioner".into(),
        since: None,
        tail_lines: None,
        limit_bytes: u32::from(*size) * 2 + 1,
        pattern: pattern.map(str::to_owned),
    };
    if mode & 2 != 0 {
        // As it is: nothing is promised but an end.
        let _ = paged(query, lines.to_vec());
        return;
    }
    let (log, texts) = stamped(lines);
    let expected: Vec<String> =
        texts.into_iter().filter(|text| pattern.is_none_or(|_| matches(text))).collect();
    let read: Vec<String> =
        paged(query, log).expect("a log can be read").into_iter().map(|line| line.text).collect();
    assert_eq!(read, expected);
}

/// The pattern of [`logs`], by other means.
fn matches(text: &str) -> bool {
    text.contains("lock") || text.bytes().any(|byte| byte.is_ascii_digit())
}

/// The lines with times as a kubelet writes them: many are of one instant, and two pipes of one container may swap a few within a second.
fn stamped(bytes: &[u8]) -> (Vec<u8>, Vec<String>) {
    let mut at: Timestamp = "2026-08-20T10:00:00Z".parse().expect("a time");
    let (mut log, mut texts) = (vec![], vec![]);
    for line in bytes.split(|byte| *byte == b'\n') {
        let [step, text @ ..] = line else { continue };
        let step = match step {
            255 => 1_000_000_000,
            254 if at.subsec_nanosecond() > 0 => -1,
            step => i64::from(step % 4),
        };
        at = at.checked_add(step.nanoseconds()).expect("within this century");
        log.extend([format!("{at:.9} ").as_bytes(), text, b"\n"].concat());
        let text = String::from_utf8_lossy(text);
        texts.push(text.strip_suffix('\r').unwrap_or(&text).to_owned());
    }
    (log, texts)
}

/// Reads a log as a guest's cursor does.
fn paged(query: Query, log: Vec<u8>) -> Result<Vec<Line>, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let log = Arc::new(log);
        let server = tower::service_fn(move |request: http::Request<_>| {
            let answer = answer(request.uri(), &log);
            async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answer)))) }
        });
        let performer =
            ClusterBackend::new(Cluster::over(server, Arc::new(Still), "fuzzed"), "run", 0);
        let (mut after, mut lines) = (vec![], vec![]);
        for _ in 0..PAGES {
            let next = NextPage { query: query.clone(), after }.effect();
            let Effect::Read(look) = &next else { unreachable!("a page is a look") };
            let Answer::NextPage(page) =
                performer.look(look, &Footprint::new(&next, vec![])).await?
            else {
                unreachable!("the answer of a page")
            };
            lines.extend(page.lines);
            if !page.more {
                return Ok(lines);
            }
            after = page.position;
        }
        panic!("{PAGES} pages, and no end");
    })
}

/// What an API server says: one Deployment, its pod, and that one's log.
fn answer(uri: &Uri, log: &[u8]) -> Vec<u8> {
    let deployment = json!({
        "metadata": {"namespace": "rook-ceph", "name": "csi", "uid": "d"},
        "spec": {"selector": {"matchLabels": {"app": "csi"}}},
    });
    let owner = json!([{"kind": "ReplicaSet", "name": "csi-1"}]);
    let pod = json!({"metadata": {"namespace": "rook-ceph", "name": "csi-1-a", "uid": "p", "ownerReferences": owner}});
    let json = |value: Value| value.to_string().into_bytes();
    match uri.path() {
        path if path.ends_with("/log") => page(uri.query().unwrap_or_default(), log),
        path if path.ends_with("/pods") => {
            json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod]}))
        }
        path if path.ends_with("/deployments/csi") => json(deployment),
        path => panic!("{path} is no part of reading a log"),
    }
}

/// `sinceTime` keeps whole seconds, `limitBytes` cuts anywhere.
fn page(query: &str, log: &[u8]) -> Vec<u8> {
    let asked = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key));
    let since = asked("sinceTime=")
        .map(|time| time.replace("%3A", ":").parse::<Timestamp>().expect("a time"));
    let limit: usize =
        asked("limitBytes=").and_then(|limit| limit.parse().ok()).expect("every page has a limit");
    let early = |line: &[u8]| {
        let stamp = std::str::from_utf8(line)
            .ok()
            .and_then(|line| line.split_once(' ')?.0.parse::<Timestamp>().ok());
        since.zip(stamp).is_some_and(|(since, at)| at < since)
    };
    let later: Vec<u8> = log
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| !early(line))
        .flatten()
        .copied()
        .collect();
    later[..later.len().min(limit)].to_vec()
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Millis {
        0
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}
