//! Validates a document against its schema, and describes each fault: the line, the path, and what
//! was probably meant.

use crate::located::Located;
use crate::sanitize::sanitized;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

/// A key of an earlier version of a document, to tell users what it is called now.
#[derive(Debug)]
pub struct RenamedKey {
    /// End of the schema path of the object that had it.
    pub object: &'static str,
    pub old: &'static str,
    /// The key of the same object that replaces it.
    pub replaced_by: &'static str,
    /// Relative to the object.
    pub now: &'static str,
}

impl RenamedKey {
    /// Describes it for the object at a path such as `spec.grants[0].evidence`.
    fn describe(&self, path: &str) -> String {
        let Self { old, now, .. } = self;
        if now.starts_with(&format!("{path}.")) {
            format!("{path}.{old} is now {now}")
        } else {
            format!("{path}: {old} is now {now}")
        }
    }
}

/// A JSON Schema that documents are validated against.
#[derive(Debug)]
pub struct Schema {
    whole: Value,
    validator: Validator,
    renamed: &'static [RenamedKey],
}

/// Jaro-Winkler similarity from which a known word is suggested.
const MIN_SIMILARITY: f64 = 0.75;

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// It is not a valid JSON Schema.
    pub fn new(whole: Value, renamed: &'static [RenamedKey]) -> Result<Self, String> {
        let validator = jsonschema::validator_for(&whole).map_err(|error| error.to_string())?;
        Ok(Self { whole, validator, renamed })
    }

    /// Returns the renamed key that an object at a schema path has. `known` are its keys today.
    fn renamed(&self, schema_path: &str, key: &str, known: &[&str]) -> Option<&'static RenamedKey> {
        self.renamed.iter().find(|renamed| {
            renamed.old == key
                && schema_path.ends_with(renamed.object)
                && known.contains(&renamed.replaced_by)
        })
    }

    pub fn is_valid(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// Returns what is wrong with a document, by line.
    pub fn faults(&self, document: &Located) -> Vec<(u64, String)> {
        let errors: Vec<ValidationError<'_>> =
            self.validator.iter_errors(&document.value).collect();
        // A renamed key that is required is not reported as missing as well.
        let replaced: Vec<(String, &str)> =
            errors.iter().flat_map(|error| self.replaced_keys(error)).collect();
        let is_replaced = |error: &ValidationError<'_>| {
            let ValidationErrorKind::Required { property } = error.kind() else { return false };
            let path = error.instance_path().to_string();
            replaced.iter().any(|(object, key)| *object == path && property == key)
        };
        let mut faults: Vec<(u64, String)> = errors
            .iter()
            .filter(|error| !is_replaced(error))
            .flat_map(|error| self.describe(document, error))
            .collect();
        faults.sort();
        faults.dedup();
        faults
    }

    /// Returns the keys that replace the renamed keys of an object, with the object's pointer.
    fn replaced_keys(&self, error: &ValidationError<'_>) -> Vec<(String, &'static str)> {
        let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() else {
            return vec![];
        };
        let (object, known) = self.object(error);
        let renamed = unexpected.iter().filter_map(|key| self.renamed(&object, key, &known));
        renamed.map(|key| (error.instance_path().to_string(), key.replaced_by)).collect()
    }

    fn describe(&self, document: &Located, error: &ValidationError<'_>) -> Vec<(u64, String)> {
        let pointer = error.instance_path().to_string();
        let path = dotted(&pointer);
        let at_path = |text: String| if path.is_empty() { text } else { format!("{path}: {text}") };
        let fault = |text: String| vec![(document.line(&pointer), at_path(text))];
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "the library describes its other kinds of errors itself"
        )]
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let (object, known) = self.object(error);
                let line = |key: &str| {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    document.line(&format!("{pointer}/{key}"))
                };
                let describe = |key: &String| match self.renamed(&object, key, &known) {
                    Some(renamed) => renamed.describe(&path),
                    None => at_path(format!(
                        "unknown key {:?}{}",
                        sanitized(key),
                        suggestion(key, &known, "known keys")
                    )),
                };
                unexpected.iter().map(|key| (line(key), describe(key))).collect()
            }
            ValidationErrorKind::Enum { options } => {
                let known: Vec<&str> =
                    options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let found = error
                    .instance()
                    .as_str()
                    .map_or_else(|| error.instance().to_string(), str::to_owned);
                fault(format!(
                    "unknown value {:?}{}",
                    sanitized(&found),
                    suggestion(&found, &known, "known values")
                ))
            }
            ValidationErrorKind::Required { property } => {
                fault(format!("{} is missing", property.as_str().unwrap_or_default()))
            }
            _other_kind => fault(sanitized(&error.to_string())),
        }
    }

    /// Returns the schema path of the object that an error is about, and the keys that it may have.
    fn object(&self, error: &ValidationError<'_>) -> (String, Vec<&str>) {
        let path = error.schema_path().to_string();
        let object = path.rsplit_once('/').map_or("", |(object, _)| object);
        let keys = self.whole.pointer(&format!("{object}/properties")).and_then(Value::as_object);
        (object.to_owned(), keys.into_iter().flatten().map(|(key, _)| key.as_str()).collect())
    }
}

/// Suggests the most similar known word, or lists all of them, as the end of an error.
pub fn suggestion(word: &str, known: &[&str], what: &str) -> String {
    let similarity =
        |candidate: &&str| strsim::jaro_winkler(&word.to_lowercase(), &candidate.to_lowercase());
    let best = known.iter().copied().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    match best.filter(|best| similarity(best) >= MIN_SIMILARITY) {
        Some(best) => format!("; did you mean {best:?}?"),
        None => format!("; {what}: {}", known.join(", ")),
    }
}

/// Returns a JSON pointer as people write it: `spec.grants[0].max`.
pub fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        match part.parse::<usize>() {
            Ok(n) => path += &format!("[{n}]"),
            Err(_) if path.is_empty() => path += &sanitized(&part),
            Err(_) => path += &format!(".{}", sanitized(&part)),
        }
    }
    path
}
