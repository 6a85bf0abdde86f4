//! Container logs, with the options of the real API: since (whole seconds), tail, bytes, follow.

use bytes::Bytes;
use jiff::Timestamp;

use super::{ApiError, Reply, Request, Target};
use crate::actors::nodes;
use crate::logs::Line;
use crate::object::{list, nanos, text};
use crate::world::World;

/// Handles a GET of `pods/log`.
pub fn handle(world: &World, request: &Request, target: &Target) -> Result<Reply, ApiError> {
    let key = target.key().ok_or_else(ApiError::method_not_allowed)?;
    let pod = world.get(&key).ok_or_else(|| ApiError::not_found(target.kind, &key.name))?;
    let names: Vec<&str> =
        list(&pod, "/spec/containers").iter().map(|container| text(container, "/name")).collect();
    let container = match request.parameter("container") {
        Some(wanted) if names.contains(&wanted) => wanted,
        Some(wanted) => {
            return Err(ApiError::new(
                400,
                format!("container {wanted} is not valid for pod {}", key.name),
            ));
        }
        None if names.len() == 1 => names[0],
        None => {
            let why = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                key.name,
                names.join(" ")
            );
            return Err(ApiError::new(400, why));
        }
    };
    if request.flag("previous") {
        let why =
            format!("previous terminated container {container:?} in pod {:?} not found", key.name);
        return Err(ApiError::new(400, why));
    }
    if !nodes::has_reachable_node(world, &pod) {
        let why = format!(
            "Get \"https://192.0.2.11:10250/containerLogs/{}/{}/{container}\": dial tcp \
             192.0.2.11:10250: i/o timeout",
            key.namespace, key.name
        );
        return Err(ApiError::new(500, why));
    }
    if ["Succeeded", "Failed"].contains(&text(&pod, "/status/phase")) {
        let why = format!("container {container:?} in pod {:?} is not available", key.name);
        return Err(ApiError::new(400, why));
    }
    if text(&pod, "/status/phase") == "Pending" {
        let why = format!(
            "container {container:?} in pod {:?} is waiting to start: ContainerCreating",
            key.name
        );
        return Err(ApiError::new(400, why));
    }
    for (parameter, minimum) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
        let given = request.parameter(parameter).and_then(|given| given.parse::<i64>().ok());
        if let Some(given) = given.filter(|given| *given < minimum) {
            let why = format!(
                "PodLogOptions \"{}\" is invalid: {parameter}: Invalid value: {given}: must be \
                 greater than or equal to {minimum}",
                key.name
            );
            return Err(ApiError::new(422, why));
        }
    }
    let mut follow = Follow {
        uid: text(&pod, "/metadata/uid").to_owned(),
        pod: key.clone(),
        container: container.to_owned(),
        since: since_time(world, request)?,
        timestamps: request.flag("timestamps"),
        remaining: request.number("limitBytes")?.map(|limit| limit as usize),
        next: 0,
        tail: request.number("tailLines")?.map(|lines| lines as usize),
        has_ended: false,
    };
    if request.flag("follow") {
        return Ok(Reply::Follow(follow));
    }
    Ok(Reply::Text(follow.take_lines(world)))
}

/// Returns the start time that the request asks for. Like the real API server, it drops fractions
/// of a second.
fn since_time(world: &World, request: &Request) -> Result<Option<Timestamp>, ApiError> {
    let from = match (request.parameter("sinceTime"), request.number("sinceSeconds")?) {
        (Some(_), Some(_)) => {
            return Err(ApiError::new(
                422,
                "PodLogOptions is invalid: at most one of `sinceTime` or `sinceSeconds` may be \
                 specified",
            ));
        }
        (Some(time), None) => {
            let time: Timestamp = time.parse().map_err(|_| {
                ApiError::new(400, format!("parsing time {time:?} as RFC 3339 failed"))
            })?;
            Some(Timestamp::from_second(time.as_second()).unwrap_or(time))
        }
        (None, Some(seconds)) => Some(
            world
                .now
                .saturating_sub(crate::world::signed(std::time::Duration::from_secs(seconds)))
                .unwrap_or(Timestamp::MIN),
        ),
        (None, None) => None,
    };
    Ok(from)
}

/// A log reader, which may follow the log.
pub struct Follow {
    pod: crate::store::Key,
    uid: String,
    container: String,
    since: Option<Timestamp>,
    timestamps: bool,
    remaining: Option<usize>,
    next: usize,
    tail: Option<usize>,
    has_ended: bool,
}

impl Follow {
    /// Returns the lines since the last call: empty if there are none, `None` at the end of the
    /// log.
    pub fn next_chunk(&mut self, world: &World) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        let bytes = self.take_lines(world);
        let alive = world.get(&self.pod).is_some_and(|pod| text(&pod, "/metadata/uid") == self.uid);
        self.has_ended = !alive || self.remaining == Some(0);
        if bytes.is_empty() && self.has_ended { None } else { Some(bytes) }
    }

    fn take_lines(&mut self, world: &World) -> Bytes {
        let lines = world.logs.read(&self.uid, &self.container);
        // Controllers may write lines with a future time, which are not visible yet.
        let visible = lines.partition_point(|line| line.time <= world.now);
        let new_lines = &lines[self.next.min(visible)..visible];
        self.next = visible;
        let since = self.since;
        let mut lines: Vec<&Line> =
            new_lines.iter().filter(|line| since.is_none_or(|since| line.time >= since)).collect();
        if let Some(tail) = self.tail.take() {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        let mut bytes = Vec::new();
        for line in lines {
            if self.timestamps {
                bytes.extend_from_slice(nanos(line.time).as_bytes());
                bytes.push(b' ');
            }
            bytes.extend_from_slice(line.text.as_bytes());
            bytes.push(b'\n');
        }
        if let Some(remaining) = &mut self.remaining {
            bytes.truncate(*remaining);
            *remaining -= bytes.len();
        }
        Bytes::from(bytes)
    }
}
