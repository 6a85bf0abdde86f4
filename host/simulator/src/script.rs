//! What a scenario adds to the simulated controllers: reactions to requests and times, repeated log
//! lines, and objects that no controller reconciles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::actors::Task;
use crate::api::patch;
use crate::kind::{self, Kind};
use crate::object::{set_at, text};
use crate::store::Key;
use crate::world::World;

/// The time that controllers have to start before a scenario starts.
pub const START_TIME: Duration = Duration::from_secs(5);

/// The scripted part of a cluster.
#[derive(Debug, Default, Clone)]
pub struct Script {
    /// The objects that no controller reconciles until a request changes them.
    pub pinned: BTreeSet<Key>,
    pub reactions: Vec<Reaction>,
    pub lines: Vec<RepeatedLine>,
    /// The number of objects that are left out because their kind is not served, by kind.
    pub left_out: BTreeMap<String, usize>,
}

/// What happens after a request or at a time.
#[derive(Debug, Clone)]
pub struct Reaction {
    pub trigger: Trigger,
    /// How often it still happens.
    pub remaining: u32,
    /// The time from the trigger to the actions.
    pub delay: Duration,
    /// The status code with which the request fails.
    pub fail: Option<u16>,
    pub actions: Arc<Vec<Action>>,
}

/// When a reaction happens.
#[derive(Debug, Clone)]
pub enum Trigger {
    /// This long after the start.
    Time(Duration),
    Request(RequestPattern),
}

/// The requests that trigger a reaction. `*` in a pattern stands for any text.
#[derive(Debug, Clone)]
pub struct RequestPattern {
    pub verb: String,
    pub group: String,
    pub plural: String,
    pub namespace: String,
    pub name: String,
}

impl RequestPattern {
    pub fn matches(&self, verb: &str, key: &Key) -> bool {
        self.verb == verb
            && (self.group.as_str(), self.plural.as_str()) == (key.kind.group, key.kind.plural)
            && matches(&self.namespace, &key.namespace)
            && matches(&self.name, &key.name)
    }
}

/// What a reaction does.
#[derive(Debug, Clone)]
pub enum Action {
    Delete(Key),
    Create(&'static Kind, Value),
    /// Applies a JSON merge patch.
    Patch(Key, Value),
    /// Sets a field of the request's object, given as a JSON pointer, back to its value before the
    /// request.
    Revert(String),
    Log(ScriptedLine),
}

/// A line for the log of a container in every pod whose name matches.
#[derive(Debug, Clone)]
pub struct ScriptedLine {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    /// The line, in which `{klog}` stands for the time as klog writes it.
    pub text: String,
}

/// A line that the container of one pod writes at an interval, as long as the pod exists.
#[derive(Debug, Clone)]
pub struct RepeatedLine {
    pub pod: Key,
    pub uid: String,
    pub container: String,
    pub text: String,
    pub every: Duration,
    pub until: Timestamp,
    /// When it is written next.
    pub next: Timestamp,
}

/// The request or write that triggered a reaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    key: Key,
    before: Option<Arc<Value>>,
}

impl Cause {
    /// Describes a request for the object with this key, which is sent now.
    pub fn new(world: &World, key: Key) -> Self {
        let before = world.get(&key);
        Cause { key, before }
    }
}

/// Schedules everything that happens at a time.
pub fn start(world: &mut World) {
    for index in 0..world.script.reactions.len() {
        if let Trigger::Time(at) = world.script.reactions[index].trigger {
            world.schedule(at + START_TIME, Task::React(index, None));
        }
    }
    for index in 0..world.script.lines.len() {
        let wait = world.script.lines[index].next.duration_since(world.now);
        world.schedule(wait.try_into().unwrap_or_default(), Task::WriteLine(index));
    }
}

/// Returns the status code with which a reaction lets a request fail.
pub fn failure(world: &mut World, verb: &str, cause: &Cause) -> Option<u16> {
    triggered(world, verb, cause, None, true)
}

/// Triggers the reactions to a request that was applied. Controllers act on its object again.
pub fn on_request(world: &mut World, verb: &str, cause: &Cause) {
    if ["create", "update", "patch", "delete"].contains(&verb) {
        world.script.pinned.remove(&cause.key);
    }
    triggered(world, verb, cause, None, false);
}

/// Triggers reactions to a request, or to a write of the reaction `by`. Those that let it fail, and
/// those that do not, are asked separately. Returns the status code of a failure.
fn triggered(
    world: &mut World,
    verb: &str,
    cause: &Cause,
    by: Option<usize>,
    fails: bool,
) -> Option<u16> {
    let mut failure = None;
    for index in 0..world.script.reactions.len() {
        let reaction = &world.script.reactions[index];
        let Trigger::Request(pattern) = &reaction.trigger else { continue };
        let is_triggered = reaction.remaining > 0
            && reaction.fail.is_some() == fails
            && by != Some(index)
            && pattern.matches(verb, &cause.key);
        if !is_triggered {
            continue;
        }
        failure = failure.or(reaction.fail);
        let delay = reaction.delay;
        world.script.reactions[index].remaining -= 1;
        if delay.is_zero() {
            react(world, index, Some(cause));
        } else {
            world.schedule(delay, Task::React(index, Some(Box::new(cause.clone()))));
        }
    }
    failure
}

/// Performs the actions of a reaction.
pub fn react(world: &mut World, index: usize, cause: Option<&Cause>) {
    let actions = world.script.reactions[index].actions.clone();
    for action in actions.iter() {
        match action {
            Action::Delete(key) => {
                write(world, index, "delete", key, |world, key| world.delete(key));
            }
            Action::Create(kind, object) => {
                let key = Key::of(kind, object);
                write(world, index, "create", &key, |world, _| {
                    let status = object.get("status").cloned();
                    if let Some(key) = world.create(kind, object.clone())
                        && let Some(status) = status
                    {
                        world.update(&key, |object| object["status"] = status);
                    }
                });
            }
            Action::Patch(key, document) => {
                write(world, index, "patch", key, |world, key| {
                    world.update(key, |object| patch::merge(object, document));
                });
            }
            Action::Revert(pointer) => {
                let Some(cause) = cause else { continue };
                let before = cause.before.as_ref().and_then(|before| before.pointer(pointer));
                write(world, index, "patch", &cause.key, |world, key| {
                    world.update(key, |object| set_at(object, pointer, before.cloned()));
                });
            }
            Action::Log(line) => {
                let now = world.now;
                for (_, uid) in pods(world, &line.namespace, &line.pod) {
                    world.logs.write(&uid, &line.container, now, with_time(&line.text, now));
                }
            }
        }
    }
}

/// Performs a write of a reaction, which can trigger the others.
fn write(
    world: &mut World,
    index: usize,
    verb: &str,
    key: &Key,
    perform: impl FnOnce(&mut World, &Key),
) {
    let cause = Cause::new(world, key.clone());
    perform(world, key);
    if world.get(key) != cause.before {
        triggered(world, verb, &cause, Some(index), false);
    }
}

/// Writes a repeated line, and schedules the next one.
pub fn write_line(world: &mut World, index: usize) {
    let RepeatedLine { pod, uid, container, text, every, until, .. } =
        world.script.lines[index].clone();
    let exists = world.get(&pod).is_some_and(|pod| self::text(&pod, "/metadata/uid") == uid);
    let now = world.now;
    if exists && now <= until {
        world.logs.write(&uid, &container, now, with_time(&text, now));
        world.schedule(every, Task::WriteLine(index));
    }
}

/// Returns the keys and UIDs of the pods whose name matches.
pub fn pods(world: &World, namespace: &str, name: &str) -> Vec<(Key, String)> {
    world
        .store
        .list(kind::PODS, Some(namespace))
        .filter(|(key, _)| matches(name, &key.name))
        .map(|(key, pod)| (key.clone(), text(pod, "/metadata/uid").to_owned()))
        .collect()
}

/// Returns a line with its time.
pub fn with_time(text: &str, time: Timestamp) -> String {
    text.replace("{klog}", &time.strftime("%m%d %H:%M:%S.%6f").to_string())
}

/// Returns whether a text matches a pattern, in which `*` stands for any text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(prefix) else { return false };
    (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| matches(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asterisk_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("plex", "plex", true),
            ("plex", "plex-2", false),
            ("*", "", true),
            ("csi-*-kx2lq", "csi-rbdplugin-provisioner-kx2lq", true),
            ("csi-*-kx2lq", "csi-rbdplugin-provisioner-w9tzn", false),
            ("*é*", "café!", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
