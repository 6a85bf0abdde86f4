//! Container logs, with the limits of the real API: whole seconds, tail, bytes, follow.

use bytes::Bytes;
use jiff::Timestamp;

use super::{Refusal, Reply, Request, Target};
use crate::logs::Line;
use crate::object::{list, nanos, text};
use crate::world::World;

/// Answers a GET of `pods/log`.
pub fn answer(world: &World, request: &Request, target: &Target) -> Result<Reply, Refusal> {
    let key = target.key().ok_or_else(Refusal::method_not_allowed)?;
    let pod = world.get(&key).ok_or_else(|| Refusal::not_found(target.kind, &key.name))?;
    let names: Vec<&str> =
        list(&pod, "/spec/containers").iter().map(|one| text(one, "/name")).collect();
    let container = match request.parameter("container") {
        Some(wanted) if names.contains(&wanted) => wanted,
        Some(wanted) => {
            return Err(Refusal::new(
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
            return Err(Refusal::new(400, why));
        }
    };
    if request.flag("previous") {
        let why =
            format!("previous terminated container {container:?} in pod {:?} not found", key.name);
        return Err(Refusal::new(400, why));
    }
    if text(&pod, "/status/phase") == "Pending" {
        let why = format!(
            "container {container:?} in pod {:?} is waiting to start: ContainerCreating",
            key.name
        );
        return Err(Refusal::new(400, why));
    }
    for (parameter, least) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
        let given = request.parameter(parameter).and_then(|given| given.parse::<i64>().ok());
        if let Some(given) = given.filter(|given| *given < least) {
            let why = format!(
                "PodLogOptions \"{}\" is invalid: {parameter}: Invalid value: {given}: must be greater than or equal to {least}",
                key.name
            );
            return Err(Refusal::new(422, why));
        }
    }
    let mut follow = Follow {
        uid: text(&pod, "/metadata/uid").to_owned(),
        pod: key.clone(),
        container: container.to_owned(),
        since: since(world, request)?,
        timestamps: request.flag("timestamps"),
        left: request.number("limitBytes")?.map(|limit| limit as usize),
        next: 0,
        tail: request.number("tailLines")?.map(|lines| lines as usize),
        ended: false,
    };
    if request.flag("follow") {
        return Ok(Reply::Follow(follow));
    }
    Ok(Reply::Text(follow.take(world)))
}

/// From when on. The API server keeps whole seconds only, whatever the caller writes.
fn since(world: &World, request: &Request) -> Result<Option<Timestamp>, Refusal> {
    let from = match (request.parameter("sinceTime"), request.number("sinceSeconds")?) {
        (Some(_), Some(_)) => {
            return Err(Refusal::new(
                422,
                "PodLogOptions is invalid: at most one of `sinceTime` or `sinceSeconds` may be specified",
            ));
        }
        (Some(time), None) => {
            let time: Timestamp = time.parse().map_err(|_| {
                Refusal::new(400, format!("parsing time {time:?} as RFC 3339 failed"))
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

/// A log that is being read.
pub struct Follow {
    pod: crate::store::Key,
    uid: String,
    container: String,
    since: Option<Timestamp>,
    timestamps: bool,
    left: Option<usize>,
    next: usize,
    tail: Option<usize>,
    ended: bool,
}

impl Follow {
    /// The lines since the last call: `None` when no more will come, empty when none have.
    pub fn read(&mut self, world: &World) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let bytes = self.take(world);
        let alive = world.get(&self.pod).is_some_and(|pod| text(&pod, "/metadata/uid") == self.uid);
        self.ended = !alive || self.left == Some(0);
        if bytes.is_empty() && self.ended { None } else { Some(bytes) }
    }

    fn take(&mut self, world: &World) -> Bytes {
        let all = world.logs.read(&self.uid, &self.container);
        // A party may write a line with a time to come: the kubelet shows it when that time has come.
        let known = all.partition_point(|line| line.time <= world.now);
        let fresh = &all[self.next.min(known)..known];
        self.next = known;
        let since = self.since;
        let mut lines: Vec<&Line> =
            fresh.iter().filter(|line| since.is_none_or(|since| line.time >= since)).collect();
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
        if let Some(left) = &mut self.left {
            bytes.truncate(*left);
            *left -= bytes.len();
        }
        Bytes::from(bytes)
    }
}
