//! Text for people: object names, error messages, durations, and counts.

use std::fmt;

use crate::types::{Error, FluxKind, FluxRef, ObjectRef};

impl ObjectRef {
    /// Creates a reference to `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Parses `namespace/name`.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        let valid = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
        valid.then(|| Self::new(namespace, name))
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for FluxKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kustomization => "Kustomization",
            Self::HelmRelease => "HelmRelease",
            Self::GitRepository => "GitRepository",
            Self::OciRepository => "OCIRepository",
            Self::Bucket => "Bucket",
        })
    }
}

impl fmt::Display for FluxRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Error {
    /// Returns the message, without the kind of error.
    pub fn message(&self) -> &str {
        match self {
            Self::Denied(text)
            | Self::NotFound(text)
            | Self::Conflict(text)
            | Self::Invalid(text)
            | Self::Unavailable(text) => text,
        }
    }

    /// Replaces the message and keeps the kind of error, to add context.
    #[must_use]
    pub fn map_message(self, map: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Denied(text) => Self::Denied(map(text)),
            Self::NotFound(text) => Self::NotFound(map(text)),
            Self::Conflict(text) => Self::Conflict(map(text)),
            Self::Invalid(text) => Self::Invalid(map(text)),
            Self::Unavailable(text) => Self::Unavailable(map(text)),
        }
    }
}

/// Formats a duration with its two largest units: `8 s`, `4 min 38 s`, `3 h 12 min`, `41 days`.
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => two_units(minutes, "min", seconds % 60, "s"),
        (0, _, _) => two_units(hours, "h", minutes % 60, "min"),
        (1, _, _) => two_units(hours, "h", 0, "min"),
        (_, _, _) => format!("{days} days"),
    }
}

fn two_units(large: u64, unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {unit}")
    } else {
        format!("{large} {unit} {small} {small_unit}")
    }
}

/// Formats the time from `then` to `now`, both in milliseconds since the epoch. A `then` in the
/// future counts as now.
pub fn age(then: u64, now: u64) -> String {
    duration(now.saturating_sub(then))
}

/// Formats a number with its noun: `1 PVC`, `3 PVCs`, `2 GitRepositories`.
pub fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        many if noun.ends_with("ry") => format!("{many} {}ies", &noun[..noun.len() - 1]),
        many => format!("{many} {noun}s"),
    }
}

/// Joins names, of which it lists at most `max`: `a, b and 10 more`.
pub fn join<T: fmt::Display>(names: impl IntoIterator<Item = T>, max: usize) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    if names.len() <= max {
        return names.join(", ");
    }
    format!("{} and {} more", names[..max].join(", "), names.len() - max)
}

#[cfg(test)]
#[path = "tests/format.rs"]
mod tests;
