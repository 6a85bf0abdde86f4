//! `tail-logs`: the logs of all pods of a Deployment, one container, in bounded pages (the text of one log is cut up in `page`).

mod page;

use crate::failure::{Failure, How};
use crate::object::{name, text, uid};
use crate::pod;
use crate::resource::DEPLOYMENTS;
use crate::send::{LARGEST, Session, concurrently};
use crate::time;
use page::Stretch;
use regex::RegexBuilder;
use salve_core::effect::tail_logs::{Line, NextPage, Page, Position, Query};
use salve_core::outcome::Error;
use serde_json::Value;
use std::borrow::Cow;

/// A compiled pattern may take so many bytes: a guest's pattern is searched for on our time, not on its own.
const PATTERN_SIZE: usize = 256 << 10;

/// So many bytes a page may hold of all logs together: it stands in the host's memory, not in the guest's.
const PAGE: usize = LARGEST / 2;

/// Of each log a page holds so much, however many there are.
const LEAST: usize = 64 << 10;

/// How many logs are read at once.
const AT_ONCE: usize = 8;

/// What came of one pod.
enum Read {
    /// Lines, and where they end.
    Lines(Stretch),
    /// Nothing, and why.
    Not(String),
}

/// The next page.
///
/// # Errors
/// `invalid` for a pattern that is none; `denied` where logs may not be read at all.
pub(crate) async fn next(session: &Session, ask: &NextPage) -> Result<Page, Error> {
    let query = &ask.query;
    let pattern = query
        .pattern
        .as_deref()
        .map(|text| RegexBuilder::new(text).size_limit(PATTERN_SIZE).build())
        .transpose()
        .map_err(|error| {
            Error::Invalid(format!("the pattern is no regular expression: {error}"))
        })?;
    let deployment = session
        .get(&DEPLOYMENTS, Some(&query.deployment.namespace), &query.deployment.name)
        .await?;
    let pods = pod::of_deployment(session, &deployment).await?;
    let most = share(pods.len());
    let read = concurrently(
        pods.iter().map(|pod| read(session, query, pod, &ask.after, most)).collect(),
        AT_ONCE,
    )
    .await;
    let mut page = Page {
        lines: vec![],
        pods: vec![],
        unreadable: vec![],
        lines_read: 0,
        more: false,
        newest: None,
        position: vec![],
    };
    for (pod, read) in pods.iter().zip(read) {
        let before = ask.after.iter().find(|position| position.pod == uid(pod));
        match read? {
            Read::Lines(stretch) => {
                page.pods.push(name(pod).to_owned());
                page.unreadable
                    .extend(stretch.odd.iter().map(|odd| format!("{}: {odd}", name(pod))));
                page.lines_read += stretch.lines.len() as u64;
                page.more |= stretch.cut;
                page.newest = page.newest.max(stretch.lines.iter().map(|line| line.time).max());
                page.position.push(stretch.position.unwrap_or_else(|| Position {
                    pod: uid(pod).to_owned(),
                    timestamp: String::new(),
                    ordinal: 0,
                }));
                let matching = stretch.lines.into_iter().filter(|line| {
                    pattern.as_ref().is_none_or(|pattern| pattern.is_match(&line.text))
                });
                page.lines.extend(matching.map(|line| Line {
                    pod: name(pod).to_owned(),
                    time: line.time,
                    text: line.text,
                }));
            }
            Read::Not(why) => {
                page.unreadable.push(format!("{}: {why}", name(pod)));
                page.position.extend(before.cloned());
            }
        }
    }
    page.lines.sort_by_key(|line| line.time);
    Ok(page)
}

/// The most bytes of one log, where so many are read.
fn share(logs: usize) -> usize {
    (PAGE / logs.max(1)).max(LEAST)
}

/// Reads on in one pod's log: `most` bytes of it, and no more.
async fn read(
    session: &Session,
    query: &Query,
    pod: &Value,
    after: &[Position],
    most: usize,
) -> Result<Read, Error> {
    let before = after.iter().find(|position| position.pod == uid(pod));
    let mut limit = most.min(query.limit_bytes as usize);
    loop {
        let bytes = match session
            .log(
                &query.deployment.namespace,
                name(pod),
                options(query, before, after.is_empty(), limit),
            )
            .await
        {
            Ok(bytes) => bytes,
            Err(failure) if failure.code() == Some(403) || failure.code() == Some(401) => {
                return Err(failure.into());
            }
            Err(failure) => return not_read(failure, pod),
        };
        let stretch = page::cut(&bytes, limit, uid(pod), before, query.since);
        // A whole page of what was read before, or one line longer than a page: a larger one gets on.
        if stretch.lines.is_empty() && stretch.cut {
            if limit >= most {
                return Ok(Read::Not(format!(
                    "a line, or what was logged in one second, is longer than {} KiB",
                    limit >> 10
                )));
            }
            limit = (limit * 2).min(most);
            continue;
        }
        return Ok(Read::Lines(stretch));
    }
}

/// A log that could not be read is one pod's matter, unless the cluster as a whole is out of reach.
fn not_read(failure: Failure, pod: &Value) -> Result<Read, Error> {
    let phase = text(pod, "/status/phase").unwrap_or("of unknown phase");
    match &failure.how {
        How::Refused(refusal) if refusal.code == 404 => Ok(Read::Not("the pod is gone".into())),
        How::Refused(_) | How::Lost(_) => {
            Ok(Read::Not(format!("{} (the pod is {phase})", failure.message())))
        }
        How::Unsent(_) | How::Credentials(_) | How::Blocked(_) => Err(failure.into()),
    }
}

/// What is asked of the API server, which keeps whole seconds of `sinceTime`: the rest is done here.
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
            // Through whole seconds once, so that it means the same to every API server.
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

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::effect::shared::ObjectRef;

    fn asked(before: Option<&Position>, first: bool) -> String {
        let query = Query {
            deployment: ObjectRef::new("a", "b"),
            container: "c".into(),
            since: time::millis("2026-08-20T10:00:00.900Z"),
            tail_lines: Some(5),
            limit_bytes: 10,
            pattern: None,
        };
        crate::resource::query(options(&query, before, first, 10))
    }

    #[test]
    fn many_logs_share_one_page() {
        assert_eq!((share(0), share(1), share(2)), (PAGE, PAGE, PAGE / 2));
        assert!((1..=500).all(|logs| share(logs) * logs <= PAGE) && share(10_000) == LEAST);
    }

    #[test]
    fn the_first_page_is_the_tail_and_later_ones_go_on() {
        assert_eq!(
            asked(None, true),
            "?container=c&timestamps=true&limitBytes=10&sinceTime=2026-08-20T10%3A00%3A00Z&tailLines=5"
        );
        let position =
            |timestamp: &str| Position { pod: "u".into(), timestamp: timestamp.into(), ordinal: 1 };
        assert_eq!(
            asked(Some(&position("2026-08-20T10:00:05.123456789Z")), false),
            "?container=c&timestamps=true&limitBytes=10&sinceTime=2026-08-20T10%3A00%3A05Z"
        );
        // A log that was empty, or of a pod that is new, is read from `since` and not from its tail.
        assert_eq!(
            asked(Some(&position("")), false),
            "?container=c&timestamps=true&limitBytes=10&sinceTime=2026-08-20T10%3A00%3A00Z"
        );
        assert_eq!(
            asked(None, false),
            "?container=c&timestamps=true&limitBytes=10&sinceTime=2026-08-20T10%3A00%3A00Z"
        );
    }
}
