//! Checks the scripted part of a scenario, and adds it to a cluster.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use salve_document::{DocumentError, suggestion};
use serde_json::Value;

use super::document::{self, Failure, ScenarioSpec};
use super::place::Placing;
use super::source::Place;
use super::times::{duration, moment};
use crate::fault::Fault;
use crate::object::{list, text};
use crate::script::{
    Action, Reaction, RepeatedLine, RequestPattern, ScriptedLine, Trigger, pods, with_time,
};
use crate::store::Key;

/// The largest number of lines that a repeated line writes before the start.
const MAX_LINES: usize = 10_000;

/// Compiles one document.
pub struct Compiler<'p, 'a> {
    pub placing: &'p mut Placing<'a>,
    /// The place of `spec`.
    pub spec: Place,
    /// The time at which the scenario starts.
    pub start: Timestamp,
}

impl Compiler<'_, '_> {
    /// Adds everything, except for the objects.
    pub fn compile(&mut self, spec: &ScenarioSpec) -> Vec<(Place, Reaction)> {
        self.uninstall(&spec.uninstalled);
        for (index, reference) in spec.removed.iter().enumerate() {
            let place = self.spec.at(&format!("/removed/{index}"));
            let Some(key) = self.placing.key_of(&place, reference) else { continue };
            if self.placing.world.store.remove(&key).is_none() {
                self.error(&place, &format!("there is no {key} to remove"));
            }
        }
        for (index, reference) in spec.managed.iter().enumerate() {
            let place = self.spec.at(&format!("/managed/{index}"));
            let Some(key) = self.placing.key_of(&place, reference) else { continue };
            if !self.placing.world.script.pinned.remove(&key) {
                self.error(&place, &format!("{key} is not in spec.objects"));
            }
        }
        for (index, log) in spec.logs.iter().enumerate() {
            self.log(&self.spec.at(&format!("/logs/{index}")), log);
        }
        for (index, fault) in spec.faults.iter().enumerate() {
            let place = self.spec.at(&format!("/faults/{index}"));
            match compile_fault(fault) {
                Ok(fault) => self.placing.world.faults.push(fault),
                Err(why) => self.error(&place, &why),
            }
        }
        let mut reactions = Vec::new();
        for (index, reaction) in spec.reactions.iter().enumerate() {
            let place = self.spec.at(&format!("/reactions/{index}"));
            let compiled = self.reaction(&place, reaction);
            reactions.extend(compiled.map(|compiled| (place, compiled)));
        }
        reactions
    }

    fn error(&mut self, place: &Place, text: &str) {
        self.placing.errors.push(place.error(&format!("{}: {text}", place.path())));
    }

    /// Returns a value, or adds an error about it.
    fn ok<T>(&mut self, place: &Place, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(why) => {
                self.error(place, &why);
                None
            }
        }
    }

    fn uninstall(&mut self, groups: &[String]) {
        for (index, group) in groups.iter().enumerate() {
            let known: Vec<&str> = self.placing.world.kinds.iter().map(|kind| kind.group).collect();
            if known.contains(&group.as_str()) {
                self.placing.world.uninstalled.push(group.clone());
            } else {
                let text = format!("no group {group:?} is served");
                let text = text + &suggestion(group, &known, "served groups");
                self.error(&self.spec.at(&format!("/uninstalled/{index}")), &text);
            }
        }
    }

    fn log(&mut self, place: &Place, log: &document::Log) {
        let found = pods(self.placing.world, &log.namespace, &log.pod);
        if found.is_empty() {
            let text = format!("no pod in namespace {} matches {:?}", log.namespace, log.pod);
            self.error(&place.at("/pod"), &text);
        }
        for (key, uid) in found {
            let pod = self.placing.world.get(&key).unwrap_or_default();
            let containers: Vec<&str> = list(&pod, "/spec/containers")
                .iter()
                .map(|container| text(container, "/name"))
                .collect();
            if !containers.contains(&log.container.as_str()) {
                let text = format!("{key} has no container {:?}", log.container);
                let text = text + &suggestion(&log.container, &containers, "its containers");
                self.error(&place.at("/container"), &text);
                continue;
            }
            for (index, line) in log.lines.iter().enumerate() {
                let place = place.at(&format!("/lines/{index}"));
                self.line(&place, line, (&key, uid.as_str(), log.container.as_str()));
            }
        }
    }

    /// Writes a line, or the past ones of a repeated line.
    fn line(&mut self, place: &Place, line: &document::Line, log: (&Key, &str, &str)) {
        let start = self.start;
        let mut time = |text: &Option<String>| {
            let time = text.as_ref().map(|text| moment(text, start))?;
            Some(self.ok(place, time))
        };
        let (at, from, until) = (time(&line.at), time(&line.from), time(&line.until));
        if [at, from, until].contains(&Some(None)) {
            return;
        }
        let (at, from, until) = (at.flatten(), from.flatten(), until.flatten());
        let (pod, uid, container) = log;
        let world = &mut self.placing.world;
        match (at, &line.every) {
            (Some(at), None) if from.is_none() && until.is_none() => {
                world.logs.write(uid, container, at, with_time(&line.text, at));
            }
            (None, Some(every)) => {
                let Some(every) = self.ok(place, duration(every)) else { return };
                let world = &mut self.placing.world;
                let mut next = from.unwrap_or(start);
                let mut written = 0;
                let until = until.unwrap_or(later(start, Duration::from_secs(86_400)));
                while next <= world.now.min(until) && written < MAX_LINES && !every.is_zero() {
                    world.logs.write(uid, container, next, with_time(&line.text, next));
                    next = later(next, every);
                    written += 1;
                }
                if written == MAX_LINES || every.is_zero() {
                    let text =
                        format!("it is repeated more than {MAX_LINES} times before the start");
                    return self.error(place, &text);
                }
                world.script.lines.push(RepeatedLine {
                    pod: pod.clone(),
                    uid: uid.to_owned(),
                    container: container.to_owned(),
                    text: line.text.clone(),
                    every,
                    until,
                    next,
                });
            }
            (Some(_) | None, Some(_) | None) => {
                self.error(place, "a line has either `at`, or `every` with `from` and `until`")
            }
        }
    }

    fn reaction(&mut self, place: &Place, reaction: &document::Reaction) -> Option<Reaction> {
        if let Err(why) = check_combination(reaction) {
            self.error(place, &why);
            return None;
        }
        let trigger = match (&reaction.on, &reaction.at) {
            (Some(requests), _) => {
                Trigger::Request(self.requests(&place.at("/on/resource"), requests)?)
            }
            (None, at) => {
                let at = at.as_deref().unwrap_or_default();
                Trigger::Time(self.ok(&place.at("/at"), duration(at))?)
            }
        };
        let delay = reaction.after.as_deref().map_or(Ok(Duration::ZERO), duration);
        let delay = self.ok(&place.at("/after"), delay)?;
        let actions = Arc::new(self.actions(place, reaction));
        let remaining = reaction.times.unwrap_or(1);
        Some(Reaction { trigger, remaining, delay, fail: reaction.fail, actions })
    }

    fn requests(&mut self, place: &Place, requests: &document::Requests) -> Option<RequestPattern> {
        let (plural, group) =
            requests.resource.split_once('.').unwrap_or((requests.resource.as_str(), ""));
        let kinds = &self.placing.world.kinds;
        let served = kinds.iter().any(|kind| (kind.plural, kind.group) == (plural, group));
        if !served {
            let known: Vec<String> = kinds.iter().map(|kind| kind.qualified()).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let text = format!("no resource {:?} is served", requests.resource);
            let text = text + &suggestion(&requests.resource, &known, "served resources");
            self.error(place, &text);
            return None;
        }
        let pattern = |pattern: &Option<String>| pattern.clone().unwrap_or_else(|| "*".to_owned());
        Some(RequestPattern {
            verb: requests.verb.as_str().to_owned(),
            group: group.to_owned(),
            plural: plural.to_owned(),
            namespace: pattern(&requests.namespace),
            name: pattern(&requests.name),
        })
    }

    fn actions(&mut self, place: &Place, reaction: &document::Reaction) -> Vec<Action> {
        let mut actions = Vec::new();
        for (index, reference) in reaction.delete.iter().enumerate() {
            let place = place.at(&format!("/delete/{index}"));
            actions.extend(self.placing.key_of(&place, reference).map(Action::Delete));
        }
        for (index, object) in reaction.create.iter().enumerate() {
            let place = place.at(&format!("/create/{index}"));
            let kind = self.placing.kind_of(&place, object);
            actions.extend(kind.map(|kind| Action::Create(kind, object.clone())));
        }
        for (index, object) in reaction.patch.iter().enumerate() {
            let place = place.at(&format!("/patch/{index}"));
            let kind = self.placing.kind_of(&place, object);
            let key = kind.map(|kind| Key::of(kind, object));
            actions.extend(key.map(|key| Action::Patch(key, without_identity(object))));
        }
        actions.extend(reaction.revert.iter().cloned().map(Action::Revert));
        actions.extend(reaction.log.iter().map(|line| {
            Action::Log(ScriptedLine {
                namespace: line.namespace.clone(),
                pod: line.pod.clone(),
                container: line.container.clone(),
                text: line.text.clone(),
            })
        }));
        actions
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(crate::world::signed(by)).unwrap_or(Timestamp::MAX)
}

fn without_identity(object: &Value) -> Value {
    let mut patch = object.clone();
    for key in ["apiVersion", "kind"] {
        crate::object::unset(&mut patch, &[key]);
    }
    patch
}

/// Checks which keys of a reaction are combined.
fn check_combination(reaction: &document::Reaction) -> Result<(), String> {
    let has_actions = !(reaction.delete.is_empty()
        && reaction.create.is_empty()
        && reaction.patch.is_empty()
        && reaction.revert.is_empty()
        && reaction.log.is_empty());
    match (&reaction.on, &reaction.at) {
        (Some(_), Some(_)) | (None, None) => {
            return Err("a reaction has either `on` or `at`".into());
        }
        (None, Some(_)) => {
            let only = [
                ("times", reaction.times.is_some()),
                ("after", reaction.after.is_some()),
                ("fail", reaction.fail.is_some()),
                ("revert", !reaction.revert.is_empty()),
            ];
            if let Some((key, _)) = only.iter().find(|(_, given)| *given) {
                return Err(format!("`{key}` needs a request: use `on` instead of `at`"));
            }
        }
        (Some(_), None) => {}
    }
    if !has_actions && reaction.fail.is_none() {
        return Err(
            "it does nothing; give it `fail`, `delete`, `create`, `patch`, `revert`, or `log`"
                .into(),
        );
    }
    Ok(())
}

fn compile_fault(fault: &document::Fault) -> Result<Fault, String> {
    let mut compiled = match (fault.status, fault.failure) {
        (Some(429), None) if fault.retry_after.is_some() => {
            Fault::too_many_requests(fault.retry_after.unwrap_or_default())
        }
        (Some(_), None) if fault.retry_after.is_some() => {
            return Err("`retryAfter` needs the status 429".into());
        }
        (Some(status), None) => Fault::status(status),
        (None, Some(Failure::ConnectionReset)) => Fault::dropped(),
        (None, Some(Failure::InvalidBody)) => Fault::garbage(),
        (None, Some(Failure::NoResponse)) => Fault::no_response(),
        (Some(_), Some(_)) | (None, None) => {
            return Err("a fault has either `status` or `failure`".into());
        }
    };
    compiled = compiled.at(&fault.path);
    if let Some(verb) = &fault.verb {
        compiled = compiled.on(verb);
    }
    compiled = match (fault.nth, fault.first) {
        (Some(_), Some(_)) => return Err("a fault has at most one of `nth` and `first`".into()),
        (Some(nth), None) => compiled.nth(nth as usize),
        (None, Some(first)) => compiled.first(first as usize),
        (None, None) => compiled,
    };
    if fault.after_applying {
        compiled = compiled.after_applying();
    }
    if let Some(delay) = &fault.delay {
        compiled = compiled.delayed(duration(delay)?);
    }
    Ok(compiled)
}

/// Checks that no reactions trigger each other without end. A reaction does not trigger itself.
///
/// # Errors
/// Names the reactions.
pub fn check_loops(reactions: &[(Place, Reaction)]) -> Result<(), DocumentError> {
    let follows =
        |from: usize, to: usize| from != to && triggers(&reactions[from].1, &reactions[to].1);
    for first in 0..reactions.len() {
        let mut path = vec![first];
        let mut visited = vec![false; reactions.len()];
        // mutant reaction-loop-accepted: path_to(first, &follows, &mut path, &mut visited) ~> false
        if path_to(first, &follows, &mut path, &mut visited) {
            let place = &reactions[first].0;
            let names: Vec<String> =
                path.iter().chain([&first]).map(|index| reactions[*index].0.path()).collect();
            return Err(place.error(&format!(
                "{}: these reactions trigger each other without end: {}",
                place.path(),
                names.join(" -> ")
            )));
        }
    }
    Ok(())
}

/// Extends a path until its last reaction triggers the first one. Returns whether there is such a
/// path.
fn path_to(
    first: usize,
    follows: &impl Fn(usize, usize) -> bool,
    path: &mut Vec<usize>,
    visited: &mut [bool],
) -> bool {
    let last = path[path.len() - 1];
    if path.len() > 1 && follows(last, first) {
        return true;
    }
    for next in 0..visited.len() {
        if next != first && !visited[next] && follows(last, next) {
            visited[next] = true;
            path.push(next);
            if path_to(first, follows, path, visited) {
                return true;
            }
            path.pop();
        }
    }
    false
}

/// Returns whether a write of one reaction can trigger another one.
fn triggers(from: &Reaction, to: &Reaction) -> bool {
    let Trigger::Request(pattern) = &to.trigger else { return false };
    if to.fail.is_some() {
        return false;
    }
    from.actions.iter().any(|action| match action {
        Action::Delete(key) => pattern.matches("delete", key),
        Action::Create(kind, object) => pattern.matches("create", &Key::of(kind, object)),
        Action::Patch(key, _) => pattern.matches("patch", key),
        Action::Revert(_) => match &from.trigger {
            Trigger::Request(object) => {
                pattern.verb == "patch"
                    && (&pattern.group, &pattern.plural) == (&object.group, &object.plural)
                    && overlap(&pattern.namespace, &object.namespace)
                    && overlap(&pattern.name, &object.name)
            }
            Trigger::Time(_) => false,
        },
        Action::Log(_) => false,
    })
}

/// Returns whether two patterns can match the same text.
fn overlap(one: &str, other: &str) -> bool {
    one.contains('*') && other.contains('*')
        || crate::script::matches(one, other)
        || crate::script::matches(other, one)
}
