//! A document against its published schema: what is wrong, on which line, and what was probably meant.

use super::located::Located;
use crate::sanitize::sanitized;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;
use std::sync::LazyLock;

/// A published schema.
pub(super) struct Schema {
    whole: Value,
    validator: Validator,
}

/// Of a Remediation.
pub(super) static REMEDIATION: LazyLock<Schema> =
    LazyLock::new(|| Schema::published(include_str!("../../../../schemas/remediation.json")));
/// Of a Policy.
pub(super) static POLICY: LazyLock<Schema> =
    LazyLock::new(|| Schema::published(include_str!("../../../../schemas/policy.json")));

/// So alike is a word that was probably meant.
const ALIKE: f64 = 0.75;

impl Schema {
    fn published(text: &str) -> Self {
        let whole: Value = serde_json::from_str(text).expect("a schema that is published is JSON");
        let validator =
            jsonschema::validator_for(&whole).expect("a schema that is published is a schema");
        Self { whole, validator }
    }

    /// What is wrong, by line: where, and in words.
    pub fn complaints(&self, document: &Located) -> Vec<(u64, String)> {
        let mut complaints: Vec<(u64, String)> = self
            .validator
            .iter_errors(&document.value)
            .flat_map(|error| self.told(document, &error))
            .collect();
        complaints.sort();
        complaints.dedup();
        complaints
    }

    fn told(&self, document: &Located, error: &ValidationError<'_>) -> Vec<(u64, String)> {
        let at = error.instance_path().to_string();
        let place = words(&at);
        let tell = |what: String| if place.is_empty() { what } else { format!("{place}: {what}") };
        let one = |what: String| vec![(document.line(&at), tell(what))];
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let known = self.keys(&error.schema_path().to_string());
                let line = |key: &str| {
                    document.line(&format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")))
                };
                unexpected
                    .iter()
                    .map(|key| {
                        (
                            line(key),
                            tell(format!(
                                "there is no key {:?}{}",
                                sanitized(key),
                                meant(key, &known, "there are")
                            )),
                        )
                    })
                    .collect()
            }
            ValidationErrorKind::Enum { options } => {
                let known: Vec<&str> =
                    options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let found = error
                    .instance()
                    .as_str()
                    .map_or_else(|| error.instance().to_string(), str::to_owned);
                one(format!(
                    "{:?} is not known here{}",
                    sanitized(&found),
                    meant(&found, &known, "there are")
                ))
            }
            ValidationErrorKind::Required { property } => {
                one(format!("{} is missing", property.as_str().unwrap_or_default()))
            }
            _other_kind => one(sanitized(&error.to_string())),
        }
    }

    /// The keys that may stand where one did not fit.
    fn keys(&self, schema_path: &str) -> Vec<&str> {
        let around = schema_path.rsplit_once('/').map_or("", |(around, _)| around);
        let keys = self.whole.pointer(&format!("{around}/properties")).and_then(Value::as_object);
        keys.into_iter().flatten().map(|(key, _)| key.as_str()).collect()
    }
}

/// What was probably meant, or all that could be.
fn meant(word: &str, known: &[&str], all: &str) -> String {
    let alike =
        |candidate: &&str| strsim::jaro_winkler(&word.to_lowercase(), &candidate.to_lowercase());
    let best = known.iter().copied().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    match best.filter(|best| alike(best) >= ALIKE) {
        Some(best) => format!("; did you mean {best:?}?"),
        None => format!("; {all} {}", known.join(", ")),
    }
}

/// A pointer as people say it: `spec.grants[0].max`.
pub(super) fn words(pointer: &str) -> String {
    let mut said = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        match part.parse::<usize>() {
            Ok(n) => said += &format!("[{n}]"),
            Err(_) if said.is_empty() => said += &sanitized(&part),
            Err(_) => said += &format!(".{}", sanitized(&part)),
        }
    }
    said
}
