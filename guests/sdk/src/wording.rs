//! Words for people: names of objects, errors, lengths of time, counts.

use std::fmt;

use crate::types::{Error, FluxKind, FluxRef, ObjectRef};

impl ObjectRef {
    /// The object `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Reads `namespace/name`.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        let whole = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
        whole.then(|| Self::new(namespace, name))
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
    /// The sentence for a person.
    pub fn message(&self) -> &str {
        match self {
            Self::Denied(text)
            | Self::NotFound(text)
            | Self::Conflict(text)
            | Self::Invalid(text)
            | Self::Unavailable(text) => text,
        }
    }

    /// The same error, its sentence told in a context.
    #[must_use]
    pub fn map(self, tell: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Denied(text) => Self::Denied(tell(text)),
            Self::NotFound(text) => Self::NotFound(tell(text)),
            Self::Conflict(text) => Self::Conflict(tell(text)),
            Self::Invalid(text) => Self::Invalid(tell(text)),
            Self::Unavailable(text) => Self::Unavailable(tell(text)),
        }
    }
}

/// A length of time in its two largest units: `8 s`, `4 min 38 s`, `3 h 12 min`, `41 days`.
pub fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => two(minutes, "min", seconds % 60, "s"),
        (0, _, _) => two(hours, "h", minutes % 60, "min"),
        (1, _, _) => two(hours, "h", 0, "min"),
        (_, _, _) => format!("{days} days"),
    }
}

fn two(large: u64, unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {unit}")
    } else {
        format!("{large} {unit} {small} {small_unit}")
    }
}

/// How long ago `then` was at `now`; a clock that runs ahead is no time at all.
pub fn age(then: u64, now: u64) -> String {
    span(now.saturating_sub(then))
}

/// A number with its noun: `1 pvc`, `3 pvcs`, `2 ReplicationSources`.
pub fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        many if noun.ends_with("ry") => format!("{many} {}ies", &noun[..noun.len() - 1]),
        many => format!("{many} {noun}s"),
    }
}

/// Names in a row, at most `most` of them: `a, b and 10 more`.
pub fn row<T: fmt::Display>(names: impl IntoIterator<Item = T>, most: usize) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    if names.len() <= most {
        return names.join(", ");
    }
    format!("{} and {} more", names[..most].join(", "), names.len() - most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_its_two_largest_units() {
        for (seconds, told) in [
            (0, "0 s"),
            (8, "8 s"),
            (60, "1 min"),
            (278, "4 min 38 s"),
            (11_520, "3 h 12 min"),
            (90_000, "25 h"),
            (41 * 86_400 + 7_000, "41 days"),
        ] {
            assert_eq!(span(seconds * 1_000), told);
        }
    }

    #[test]
    fn a_time_in_the_future_is_no_age() {
        assert_eq!(age(2_000, 1_000), "0 s");
    }

    #[test]
    fn only_namespace_and_name_make_a_reference() {
        assert_eq!(ObjectRef::parse("a/b"), Some(ObjectRef::new("a", "b")));
        for wrong in ["", "a", "a/", "/b", "a/b/c"] {
            assert_eq!(ObjectRef::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_long_row_is_folded_with_a_count() {
        assert_eq!(row(["a", "b"], 2), "a, b");
        assert_eq!(row(["a", "b", "c", "d"], 2), "a, b and 2 more");
    }

    #[test]
    fn a_count_agrees_with_its_noun() {
        assert_eq!(count(1, "claim"), "1 claim");
        assert_eq!(count(0, "claim"), "0 claims");
        assert_eq!(count(2, "lock key"), "2 lock keys");
        assert_eq!(count(2, "GitRepository"), "2 GitRepositories");
    }
}
