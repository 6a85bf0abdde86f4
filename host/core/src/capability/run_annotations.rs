//! The annotations of an object that a run changed temporarily.

/// The run.
pub const RUN: &str = "salve.dev/run";
/// Why it was changed, for people who find it.
pub const REASON: &str = "salve.dev/reason";
/// The run's deadline, RFC 3339.
pub const DEADLINE: &str = "salve.dev/deadline";

/// Domain of the annotation with a field's previous value. The name in it is the field.
const PREVIOUS_DOMAIN: &str = "previous.salve.dev";

/// Returns the key of the annotation of a field, such as `spec.replicas`. Its value is the field's
/// previous value, or `absent`.
pub fn previous_key(field: &str) -> String {
    format!("{PREVIOUS_DOMAIN}/{field}")
}

/// Returns the field whose previous value an annotation has.
pub fn field_of_key(key: &str) -> Option<&str> {
    key.strip_prefix(PREVIOUS_DOMAIN)?.strip_prefix('/')
}
