use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Response, Uri};
use http_body_util::Full;
use jiff::{Timestamp, ToSpan};
use salve_core::Millis;
use salve_core::capability::tail_logs::{Line, NextPage, Query, Workload};
use salve_core::capability::types::ObjectRef;
use salve_core::capability::{Answer, Effect, TypedCall};
use salve_core::footprint::Footprint;
use salve_core::outcome::Error;
use salve_kubernetes::{Cluster, ClusterBackend};
use salve_run::{Backend, Clock};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Limit for the pages of one log. More pages than bytes mean that reading makes no progress.
const MAX_PAGES: usize = 5000;

/// Checks that a log is read completely. The first byte is the size of a page, the second selects a
/// filter and the format, and the rest are lines.
///
/// All lines of a well-formed log are read in order, whatever the size of a page. Reading any other
/// bytes terminates.
pub fn logs(bytes: &[u8]) {
    let [size, mode, lines @ ..] = bytes else { return };
    let pattern = (mode & 1 != 0).then_some("lock|[0-9]+");
    let query = Query {
        workload: Workload::deployment(ObjectRef::new("rook-ceph", "csi")),
        container: "csi-provisioner".into(),
        since: None,
        tail_lines: None,
        limit_bytes: u32::from(*size) * 2 + 1,
        pattern: pattern.map(str::to_owned),
    };
    if mode & 2 != 0 {
        // Not well-formed: reading only has to terminate.
        let _ = read_pages(query, lines.to_vec());
        return;
    }
    let (log, texts) = with_timestamps(lines);
    let expected: Vec<String> =
        texts.into_iter().filter(|text| pattern.is_none_or(|_| matches(text))).collect();
    let read: Vec<String> = read_pages(query, log)
        .expect("the log is readable")
        .into_iter()
        .map(|line| line.text)
        .collect();
    assert_eq!(read, expected);
}

/// Matches like the pattern of [`logs`], without a regular expression.
fn matches(text: &str) -> bool {
    text.contains("lock") || text.bytes().any(|byte| byte.is_ascii_digit())
}

/// Prefixes the lines with timestamps as a kubelet writes them. Many lines have the same timestamp,
/// and the two pipes of a container may swap a few lines within a second. Returns the log and the
/// texts of its lines.
fn with_timestamps(bytes: &[u8]) -> (Vec<u8>, Vec<String>) {
    let mut at: Timestamp = "2026-08-20T10:00:00Z".parse().expect("a valid timestamp");
    let (mut log, mut texts) = (vec![], vec![]);
    for line in bytes.split(|byte| *byte == b'\n') {
        let [step, text @ ..] = line else { continue };
        let step = match step {
            255 => 1_000_000_000,
            254 if at.subsec_nanosecond() > 0 => -1,
            step => i64::from(step % 4),
        };
        at = at.checked_add(step.nanoseconds()).expect("the timestamp is in range");
        log.extend([format!("{at:.9} ").as_bytes(), text, b"\n"].concat());
        let text = String::from_utf8_lossy(text);
        texts.push(text.strip_suffix('\r').unwrap_or(&text).to_owned());
    }
    (log, texts)
}

/// Reads a log page by page, like a guest's cursor.
fn read_pages(query: Query, log: Vec<u8>) -> Result<Vec<Line>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("the runtime starts");
    runtime.block_on(async {
        let log = Arc::new(log);
        let server = tower::service_fn(move |request: http::Request<_>| {
            let body = response_body(request.uri(), &log);
            async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body)))) }
        });
        let backend =
            ClusterBackend::new(Cluster::over(server, Arc::new(StoppedClock), "fuzzed"), "run", 0);
        let (mut after, mut lines) = (vec![], vec![]);
        for _ in 0..MAX_PAGES {
            let next = NextPage { query: query.clone(), after }.effect();
            let Effect::Read(read) = &next else { unreachable!("NextPage is a read") };
            let Answer::NextPage(page) = backend.read(read, &Footprint::new(&next, vec![])).await?
            else {
                unreachable!("NextPage has the answer NextPage")
            };
            lines.extend(page.lines);
            if !page.more {
                return Ok(lines);
            }
            after = page.position;
        }
        panic!("the log does not end after {MAX_PAGES} pages");
    })
}

/// Responds like an API server with one Deployment, its pod, and the log of the pod.
fn response_body(uri: &Uri, log: &[u8]) -> Vec<u8> {
    let deployment = json!({
        "metadata": {"namespace": "rook-ceph", "name": "csi", "uid": "d"},
        "spec": {"selector": {"matchLabels": {"app": "csi"}}},
    });
    let owner = json!([{"kind": "ReplicaSet", "name": "csi-1"}]);
    let pod = json!({
        "metadata": {
            "namespace": "rook-ceph",
            "name": "csi-1-a",
            "uid": "p",
            "ownerReferences": owner,
        },
    });
    let json = |value: Value| value.to_string().into_bytes();
    match uri.path() {
        path if path.ends_with("/log") => page(uri.query().unwrap_or_default(), log),
        path if path.ends_with("/pods") => {
            json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod]}))
        }
        path if path.ends_with("/deployments/csi") => json(deployment),
        path => panic!("unexpected request: {path}"),
    }
}

/// Returns a part of the log. `sinceTime` has a resolution of seconds; `limitBytes` cuts anywhere.
fn page(query: &str, log: &[u8]) -> Vec<u8> {
    let parameter = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key));
    let since = parameter("sinceTime=")
        .map(|time| time.replace("%3A", ":").parse::<Timestamp>().expect("a valid timestamp"));
    let limit: usize = parameter("limitBytes=")
        .and_then(|limit| limit.parse().ok())
        .expect("every request has a limit");
    let is_earlier = |line: &[u8]| {
        let stamp = std::str::from_utf8(line)
            .ok()
            .and_then(|line| line.split_once(' ')?.0.parse::<Timestamp>().ok());
        since.zip(stamp).is_some_and(|(since, at)| at < since)
    };
    let later: Vec<u8> = log
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| !is_earlier(line))
        .flatten()
        .copied()
        .collect();
    later[..later.len().min(limit)].to_vec()
}

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Millis {
        0
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}
