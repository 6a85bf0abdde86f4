//! Problems: what a document says that a problem looks like.
//!
//! The guest reports where it observed a problem. After the run, the host reads the same again:
//! [`crate::proof`]. What an answer shows about a problem is an [`Evaluation`].

mod evaluation;
mod pattern;
mod schema;
mod window;

pub use evaluation::{Affected, Evaluation, Subject};
pub use pattern::Pattern;
pub use window::Window;

use crate::capability::{Capability, Read};
use crate::glob::Glob;
use crate::sanitize::sanitized;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A problem: the read that shows it, by what it shows it, and what proves that it is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Problem {
    /// The name by which the guest reports it.
    #[schemars(regex(pattern = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// The read that shows it.
    pub read: ProblemRead,
    /// A regular expression. A log line that matches shows the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::describe_pattern)]
    pub pattern: Option<Pattern>,
    /// An object in one of these states shows the problem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), transform = schema::describe_states)]
    pub states: Vec<String>,
    /// What counts as cleared.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cleared_by: ClearedBy,
    /// How long it must stay clear after the last change, such as `90s` or `5m`: at least as long
    /// as it may take to reappear.
    pub window: Window,
}

/// Which reads, of which objects, show a problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProblemRead {
    /// The WIT interface. The guest needs a grant for it.
    #[schemars(schema_with = "schema::capabilities")]
    pub capability: Capability,
    /// Namespaces. With `states`, names only: the host requires that none was left out.
    #[schemars(length(min = 1))]
    pub namespaces: Vec<Glob>,
    /// Object names, by name or glob pattern; of a log, those of its workload. Without it: all
    /// names.
    #[serde(default = "every", skip_serializing_if = "is_every")]
    #[schemars(length(min = 1))]
    pub names: Vec<Glob>,
    /// Containers whose log is read, by name or glob pattern. Without it: all containers. For
    /// tail-logs.
    #[serde(default = "every", skip_serializing_if = "is_every")]
    #[schemars(length(min = 1))]
    pub containers: Vec<Glob>,
    /// Only PVCs of these CSI drivers, by name or glob pattern. Without it: all drivers. For
    /// query-pvcs.
    #[serde(default = "every", skip_serializing_if = "is_every")]
    #[schemars(length(min = 1))]
    pub drivers: Vec<Glob>,
}

/// What counts as cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClearedBy {
    /// The object still exists and does not show the problem. One that was deleted or scaled to
    /// zero proves nothing.
    #[default]
    Healthy,
    /// The object no longer exists.
    Gone,
    /// Either.
    HealthyOrGone,
}

/// A longer window for a problem that a Remediation declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongerWindow {
    /// Name of the problem.
    #[schemars(length(min = 1))]
    pub problem: String,
    /// A window that is shorter than that of the problem has no effect.
    pub window: Window,
}

/// By what the answer of a read can show a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predicate {
    /// It cannot.
    None,
    /// By a log line that matches `pattern`.
    Pattern,
    /// By an object in one of these `states`.
    States(&'static [&'static str]),
}

fn every() -> Vec<Glob> {
    vec![Glob::every()]
}

fn is_every(globs: &[Glob]) -> bool {
    globs.iter().any(Glob::is_every)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn matches(globs: &[Glob], name: &str) -> bool {
    globs.iter().any(|glob| glob.matches(name))
}

impl ClearedBy {
    pub fn allows_healthy(self) -> bool {
        match self {
            Self::Healthy | Self::HealthyOrGone => true,
            Self::Gone => false,
        }
    }

    pub fn allows_gone(self) -> bool {
        match self {
            Self::Gone | Self::HealthyOrGone => true,
            Self::Healthy => false,
        }
    }
}

impl ProblemRead {
    /// Returns whether an object is in its scope.
    pub fn covers(&self, namespace: &str, name: &str) -> bool {
        matches(&self.namespaces, namespace) && matches(&self.names, name)
    }

    pub fn covers_container(&self, container: &str) -> bool {
        matches(&self.containers, container)
    }

    /// Returns whether a PVC of this driver is in its scope; None if the driver is not known.
    pub fn covers_driver(&self, driver: Option<&str>) -> Option<bool> {
        match driver {
            Some(driver) => Some(matches(&self.drivers, driver)),
            None => is_every(&self.drivers).then_some(true),
        }
    }

    /// Returns the namespaces that a read must cover: those that are granted.
    pub fn required_namespaces<'a>(&'a self, granted: &'a [Glob]) -> impl Iterator<Item = &'a str> {
        let names = self.namespaces.iter().filter(|glob| glob.is_plain()).map(Glob::as_str);
        names.filter(|name| matches(granted, name))
    }
}

impl Problem {
    /// Returns whether this function's answers can show it.
    pub fn is_shown_by(&self, read: &Read) -> bool {
        read.function().capability() == self.read.capability
            && read.function().predicate() != Predicate::None
    }

    /// Returns whether an object in this state shows it.
    pub fn has_state(&self, state: &str) -> bool {
        self.states.iter().any(|known| known == state)
    }

    /// Returns whether the window is covered by the last read alone, because log lines have times.
    pub fn reads_history(&self) -> bool {
        self.pattern.is_some()
    }

    /// Checks what a schema cannot express. Returns what is wrong, and the path within the problem.
    ///
    /// # Errors
    /// It cannot be evaluated.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let capability = self.read.capability;
        match (capability.predicate(), &self.pattern, self.states.as_slice()) {
            (Predicate::None, _, _) => Err((
                "/read/capability",
                format!("the answers of {capability} show no problem that the host can recognize"),
            )),
            (Predicate::Pattern, Some(_), []) | (Predicate::States(_), None, [_, ..]) => Ok(()),
            (Predicate::Pattern, _, [_, ..]) => {
                Err(("/states", format!("does not apply to {capability}: use `pattern`")))
            }
            (Predicate::Pattern, None, []) => Err((
                "",
                format!("pattern is missing: {capability} shows a problem by lines that match it"),
            )),
            (Predicate::States(_), Some(_), _) => {
                Err(("/pattern", format!("does not apply to {capability}: use `states`")))
            }
            (Predicate::States(known), None, []) => Err((
                "",
                format!(
                    "states is missing: {capability} shows a problem by the states of objects: {}",
                    known.join(", ")
                ),
            )),
        }?;
        self.validate_states()?;
        self.validate_scope()
    }

    fn validate_states(&self) -> Result<(), (&'static str, String)> {
        let capability = self.read.capability;
        let Predicate::States(known) = capability.predicate() else { return Ok(()) };
        // mutant unknown-state-accepted: !known.contains(&state.as_str()) ~> state.is_empty()
        match self.states.iter().find(|state| !known.contains(&state.as_str())) {
            Some(state) => Err((
                "/states",
                format!(
                    "{capability} has no state {:?}{}",
                    sanitized(state),
                    salve_document::suggestion(state, known, "known states")
                ),
            )),
            None => Ok(()),
        }
    }

    fn validate_scope(&self) -> Result<(), (&'static str, String)> {
        let read = &self.read;
        let pattern = read.namespaces.iter().find(|glob| !glob.is_plain());
        match (pattern, self.pattern.is_some()) {
            (Some(pattern), false) => Err((
                "/read/namespaces",
                format!(
                    "{:?} is a pattern: list the namespaces by name, so that none can be left out",
                    sanitized(pattern.as_str())
                ),
            )),
            (None, false) if !is_every(&read.containers) => {
                Err(("/read/containers", "applies to tail-logs only".into()))
            }
            _ if !is_every(&read.drivers) && read.capability != Capability::QueryPvcs => {
                Err(("/read/drivers", "applies to query-pvcs only".into()))
            }
            (Some(_) | None, _) => Ok(()),
        }
    }
}

/// Describes when it counts as cleared.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, read, cleared_by, window, .. } = self;
        let namespaces: Vec<&str> = read.namespaces.iter().map(Glob::as_str).collect();
        let gone = match cleared_by {
            ClearedBy::Healthy => "",
            ClearedBy::Gone => ", because it is gone",
            ClearedBy::HealthyOrGone => ", or it is gone",
        };
        let clear = match &self.pattern {
            Some(pattern) => format!("no line matches {:?}", pattern.as_str()),
            None => format!("none is {}", self.states.join(" or ")),
        };
        let (capability, namespaces) = (read.capability, namespaces.join(", "));
        write!(f, "{name}: {clear}{gone}, for {window} ({capability} in {namespaces})")
    }
}

/// Returns the problems of a run: those of its Remediation and those that a policy adds, with the
/// longer of two windows.
///
/// # Errors
/// Both declare a problem of the same name.
pub fn merged(
    remediation: Vec<Problem>,
    policy: Vec<Problem>,
    windows: &[LongerWindow],
) -> Result<Vec<Problem>, String> {
    let mut problems = remediation;
    for problem in policy {
        if problems.iter().any(|other| other.name == problem.name) {
            return Err(format!(
                "spec.problems: the Remediation declares a problem {:?} as well; to lengthen its \
                 window, use spec.windows",
                problem.name
            ));
        }
        problems.push(problem);
    }
    for problem in &mut problems {
        for longer in windows.iter().filter(|longer| longer.problem == problem.name) {
            // mutant policy-shortens-window: problem.window.max(longer.window) ~> longer.window
            problem.window = problem.window.max(longer.window);
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests;
