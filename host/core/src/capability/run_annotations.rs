//! The annotations of an object that a run changed temporarily.

/// The run.
pub const RUN: &str = "salve.dev/run";
/// Why it was changed, for people who find it.
pub const REASON: &str = "salve.dev/reason";
/// The run's deadline, RFC 3339.
pub const DEADLINE: &str = "salve.dev/deadline";
