//! `tail-logs`: the logs of one container in all pods of a workload, in bounded pages. `page`
//! parses the text of one log.

mod page;

use crate::failure::{Failure, FailureKind, Rejection};
use crate::object::{name, text, uid};
use crate::perform::PerformRead;
use crate::pod;
use crate::resource::{DAEMON_SETS, DEPLOYMENTS, JOBS, PODS, STATEFUL_SETS};
use crate::send::{MAX_RESPONSE_BYTES, Session, concurrently};
use crate::time;
use page::LogChunk;
use regex::RegexBuilder;
use salve_core::Millis;
use salve_core::capability::tail_logs::{
    Line, NextPage, Page, Position, Query, Workload, WorkloadKind,
};
use salve_core::capability::types::ObjectRef;
use salve_core::outcome::Error;
use serde_json::Value;
use std::borrow::Cow;

/// Maximum size of a compiled pattern: matching is not charged to the guest's instruction limit.
const MAX_PATTERN_BYTES: usize = 256 << 10;

/// Maximum size of a page over all logs, which is held in the host's memory.
const MAX_PAGE_BYTES: usize = MAX_RESPONSE_BYTES / 2;

/// Minimum size of a page per log, however many logs there are.
const MIN_LOG_BYTES: usize = 64 << 10;

/// Maximum number of times that a smaller page is requested because the response took too long.
const MAX_SMALLER_PAGES: u32 = 3;

/// Maximum number of logs that are read concurrently.
const MAX_CONCURRENT_LOGS: usize = 8;

/// The log of one pod.
enum PodLog {
    Lines(LogChunk),
    /// Contains the cause.
    Unreadable(String),
    /// It cannot contain anything that matters. Contains the reason.
    Skipped(String),
}

/// Reads the next page.
///
/// # Errors
/// `invalid` for an invalid pattern; `denied` if logs may not be read.
async fn next(session: &Session, call: &NextPage) -> Result<Page, Error> {
    let query = &call.query;
    let pattern = query
        .pattern
        .as_deref()
        .map(|text| RegexBuilder::new(text).size_limit(MAX_PATTERN_BYTES).build())
        .transpose()
        .map_err(|error| {
            Error::Invalid(format!("pattern is not a valid regular expression: {error}"))
        })?;
    let mut pods = pods_of(session, &query.workload).await?;
    // mutant finished-pod-unreadable: !pod::is_finished(pod) ~> true
    pods.retain(|pod| !pod::is_finished(pod));
    let max_bytes = bytes_per_log(pods.len());
    let logs = concurrently(
        pods.iter().map(|pod| read(session, query, pod, &call.after, max_bytes)).collect(),
        MAX_CONCURRENT_LOGS,
    )
    .await;
    let mut page = Page {
        lines: vec![],
        pods: vec![],
        unreadable: vec![],
        skipped: vec![],
        lines_read: 0,
        more: false,
        newest: None,
        position: vec![],
    };
    for (pod, log) in pods.iter().zip(logs) {
        let before = call.after.iter().find(|position| position.pod == uid(pod));
        match log? {
            PodLog::Lines(chunk) => {
                page.pods.push(name(pod).to_owned());
                page.unreadable.extend(
                    chunk.untimed.iter().map(|untimed| format!("{}: {untimed}", name(pod))),
                );
                page.lines_read += chunk.lines.len() as u64;
                page.more |= chunk.truncated;
                page.newest = page.newest.max(chunk.lines.iter().map(|line| line.time).max());
                page.position.push(chunk.position.unwrap_or_else(|| Position {
                    pod: uid(pod).to_owned(),
                    timestamp: String::new(),
                    ordinal: 0,
                }));
                let matching = chunk.lines.into_iter().filter(|line| {
                    pattern.as_ref().is_none_or(|pattern| pattern.is_match(&line.text))
                });
                page.lines.extend(matching.map(|line| Line {
                    pod: name(pod).to_owned(),
                    time: line.time,
                    text: line.text,
                }));
            }
            PodLog::Unreadable(why) => {
                page.unreadable.push(format!("{}: {why}", name(pod)));
                page.position.extend(before.cloned());
            }
            PodLog::Skipped(why) => {
                page.skipped.push(format!("{}: {why}", name(pod)));
                page.position.extend(before.cloned());
            }
        }
    }
    page.lines.sort_by_key(|line| line.time);
    Ok(page)
}

/// Returns the pods of a workload, sorted by name.
async fn pods_of(session: &Session, workload: &Workload) -> Result<Vec<Value>, Error> {
    let resource = match workload.kind {
        WorkloadKind::Deployment => &DEPLOYMENTS,
        WorkloadKind::DaemonSet => &DAEMON_SETS,
        WorkloadKind::StatefulSet => &STATEFUL_SETS,
        WorkloadKind::Job => &JOBS,
        WorkloadKind::Pod => &PODS,
    };
    let ObjectRef { namespace, name } = &workload.object;
    let object = session.get(resource, Some(namespace), name).await?;
    Ok(match workload.kind {
        WorkloadKind::Deployment => pod::of_deployment(session, &object).await?,
        WorkloadKind::DaemonSet | WorkloadKind::StatefulSet | WorkloadKind::Job => {
            pod::of_controller(session, &object).await?
        }
        WorkloadKind::Pod => vec![object],
    })
}

/// Returns the maximum number of bytes to read per log.
fn bytes_per_log(logs: usize) -> usize {
    (MAX_PAGE_BYTES / logs.max(1)).max(MIN_LOG_BYTES)
}

/// Continues reading the log of one pod, at most `max_bytes` of it.
async fn read(
    session: &Session,
    query: &Query,
    pod: &Value,
    after: &[Position],
    max_bytes: usize,
) -> Result<PodLog, Error> {
    let now = session.clock().now();
    if pod::is_unscheduled(pod) {
        return Ok(PodLog::Skipped(format!("not started: {}", pod::reason(pod, now))));
    }
    // A dead node must not delay each page by the timeouts of all attempts.
    let (session, mut smaller_pages) = if pod::is_overdue(pod, now) {
        (&session.clone().without_retries(), 0)
    } else {
        (session, MAX_SMALLER_PAGES)
    };
    let before = after.iter().find(|position| position.pod == uid(pod));
    let (mut max_bytes, mut limit) = (max_bytes, max_bytes.min(query.limit_bytes as usize));
    loop {
        let bytes = match session
            .log(
                &query.workload.object.namespace,
                name(pod),
                options(query, before, after.is_empty(), limit),
            )
            .await
        {
            Ok(bytes) => bytes,
            Err(failure) if failure.code() == Some(403) || failure.code() == Some(401) => {
                return Err(failure.into());
            }
            // On a slow link, less can arrive in time. A page never grows beyond that again.
            Err(failure) if failure.timed_out && smaller_pages > 0 => {
                smaller_pages -= 1;
                limit = (limit / 2).max(1);
                max_bytes = limit;
                continue;
            }
            Err(failure) => return unreadable(failure, pod, now),
        };
        let chunk = page::parse_chunk(&bytes, limit, uid(pod), before, query.since);
        // Nothing but lines that were read before, or a line longer than a page: use a larger page.
        if chunk.lines.is_empty() && chunk.truncated {
            if limit >= max_bytes {
                return Ok(PodLog::Unreadable(format!(
                    "a line, or the lines of one second, are larger than {} KiB",
                    limit >> 10
                )));
            }
            limit = (limit * 2).min(max_bytes);
            continue;
        }
        return Ok(PodLog::Lines(chunk));
    }
}

/// Treats a failure as that of one pod's log, unless the API server as a whole cannot be reached.
///
/// A container that the kubelet has not started holds no lock and has no log. The same is true for
/// a pod that should have ended on a node that does not respond: if it still runs, the node is cut
/// off, and its sidecars cannot renew their leases, so that nothing calls its driver any more. Any
/// other container that cannot be read may hold a lock.
fn unreadable(failure: Failure, pod: &Value, now: Millis) -> Result<PodLog, Error> {
    let phase = text(pod, "/status/phase").unwrap_or("in an unknown phase");
    match &failure.kind {
        FailureKind::Rejected(rejection) if is_not_started(rejection, pod) => {
            Ok(PodLog::Skipped(rejection.message.clone()))
        }
        // mutant lost-pod-without-end: pod::is_overdue(pod, now) ~> true
        FailureKind::InDoubt(why) if pod::is_overdue(pod, now) => {
            Ok(PodLog::Skipped(format!("{} ({why})", pod::reason(pod, now))))
        }
        FailureKind::Absent(_) => Ok(PodLog::Unreadable("the pod no longer exists".into())),
        FailureKind::Rejected(_) | FailureKind::InDoubt(_) => {
            Ok(PodLog::Unreadable(format!("{} (the pod is {phase})", failure.message())))
        }
        FailureKind::NotSent(_) | FailureKind::Credentials(_) | FailureKind::Blocked(_) => {
            Err(failure.into())
        }
    }
}

/// Returns true if the kubelet rejected the request because the container has not started.
fn is_not_started(rejection: &Rejection, pod: &Value) -> bool {
    rejection.code == 400
        && (rejection.message.contains("is waiting to start")
            // The kubelet has no status of the container yet.
            || rejection.message.contains("is not available") && !pod::has_started(pod))
}

/// Returns the query parameters. The API server only considers whole seconds of `sinceTime`, so
/// earlier lines are filtered out here.
fn options<'a>(
    query: &'a Query,
    before: Option<&'a Position>,
    first: bool,
    limit: usize,
) -> Vec<(&'static str, Cow<'a, str>)> {
    let mut pairs: Vec<(&'static str, Cow<'a, str>)> = vec![
        ("container", query.container.as_str().into()),
        ("timestamps", "true".into()),
        ("limitBytes", limit.to_string().into()),
    ];
    match before.filter(|position| !position.timestamp.is_empty()) {
        Some(position) => {
            // Formatted with whole seconds, which every API server interprets in the same way.
            let since = time::millis(&position.timestamp).map_or_else(
                || Cow::Borrowed(position.timestamp.as_str()),
                |at| time::seconds(at).into(),
            );
            pairs.push(("sinceTime", since));
        }
        None => {
            if let Some(since) = query.since {
                pairs.push(("sinceTime", time::seconds(since).into()));
            }
            if let (true, Some(lines)) = (first, query.tail_lines) {
                pairs.push(("tailLines", lines.to_string().into()));
            }
        }
    }
    pairs
}

impl PerformRead for NextPage {
    async fn read(&self, session: &Session) -> Result<Page, Error> {
        next(session, self).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query_string(before: Option<&Position>, first: bool) -> String {
        let query = Query {
            workload: Workload::deployment(ObjectRef::new("a", "b")),
            container: "c".into(),
            since: time::millis("2026-08-20T10:00:00.900Z"),
            tail_lines: Some(5),
            limit_bytes: 10,
            pattern: None,
        };
        crate::resource::encode_query(options(&query, before, first, 10))
    }

    #[test]
    fn the_page_size_is_divided_among_the_logs() {
        assert_eq!(
            (bytes_per_log(0), bytes_per_log(1), bytes_per_log(2)),
            (MAX_PAGE_BYTES, MAX_PAGE_BYTES, MAX_PAGE_BYTES / 2)
        );
        assert!(
            (1..=500).all(|logs| bytes_per_log(logs) * logs <= MAX_PAGE_BYTES)
                && bytes_per_log(10_000) == MIN_LOG_BYTES
        );
    }

    #[test]
    fn the_first_page_is_the_tail_and_later_pages_continue() {
        assert_eq!(
            query_string(None, true),
            "?container=c&timestamps=true&limitBytes=10&sinceTime=2026-08-20T10%3A00%3A00Z&tailLines=5"
        );
        let position =
            |timestamp: &str| Position { pod: "u".into(), timestamp: timestamp.into(), ordinal: 1 };
        assert_eq!(
            query_string(Some(&position("2026-08-20T10:00:05.123456789Z")), false),
            "?container=c&timestamps=true&limitBytes=10&sinceTime=2026-08-20T10%3A00%3A05Z"
        );
        // An empty log, or that of a new pod, is read from `since` and not from its tail.
        assert_eq!(
            query_string(Some(&position("")), false),
            "?container=c&timestamps=true&limitBytes=10&sinceTime=2026-08-20T10%3A00%3A00Z"
        );
        assert_eq!(
            query_string(None, false),
            "?container=c&timestamps=true&limitBytes=10&sinceTime=2026-08-20T10%3A00%3A00Z"
        );
    }
}
