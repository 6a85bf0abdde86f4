//! Reads the YAML documents of users: typed, validated against a schema that is generated from the
//! types, with errors that name the line and what was probably meant.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

mod located;
pub mod sanitize;
pub mod schema;
mod validate;

use sanitize::sanitized;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use located::Located;
pub use validate::{RenamedKey, Schema, dotted, suggestion};

pub const API_VERSION: &str = "salve.dev/v1alpha1";

/// What is wrong with a document, one line per fault: `policy.yaml:6: spec: grants is missing`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .faults.join("\n"))]
pub struct DocumentError {
    faults: Vec<String>,
}

impl DocumentError {
    /// A fault in a line. `source` names the document.
    pub fn at(source: &str, line: u64, text: &str) -> Self {
        DocumentError { faults: vec![fault(source, line, text)] }
    }

    /// A fault of a file that has no line.
    pub fn of_file(source: &str, text: &str) -> Self {
        DocumentError { faults: vec![format!("{}: {}", sanitized(source), sanitized(text))] }
    }

    /// Returns all faults, given with their lines, as one error.
    ///
    /// # Errors
    /// There is a fault.
    pub fn all(
        source: &str,
        faults: impl IntoIterator<Item = (u64, String)>,
    ) -> Result<(), DocumentError> {
        let faults: Vec<String> =
            faults.into_iter().map(|(line, text)| fault(source, line, &text)).collect();
        if faults.is_empty() { Ok(()) } else { Err(DocumentError { faults }) }
    }

    /// Returns the faults of several errors as one error.
    ///
    /// # Errors
    /// There is an error.
    pub fn join(errors: impl IntoIterator<Item = DocumentError>) -> Result<(), DocumentError> {
        let faults: Vec<String> = errors.into_iter().flat_map(|error| error.faults).collect();
        if faults.is_empty() { Ok(()) } else { Err(DocumentError { faults }) }
    }

    /// The parser's message, which shows the lines around the fault.
    pub fn yaml(source: &str, error: &serde_saphyr::Error) -> Self {
        // mutant document-error-unescaped: sanitized ~> str::to_owned
        let lines: Vec<String> = error.to_string().lines().map(sanitized).collect();
        DocumentError { faults: vec![format!("{source}: {}", lines.join("\n"))] }
    }

    pub fn faults(&self) -> &[String] {
        &self.faults
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Name of the document, for people.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A document of any kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Document<S> {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    pub metadata: Metadata,
    pub spec: S,
}

/// A kind of document.
#[derive(Debug)]
pub struct DocumentSchema {
    kind: &'static str,
    former_kind: Option<&'static str>,
    schema: Schema,
}

impl DocumentSchema {
    /// Compiles the schema of a kind.
    ///
    /// # Errors
    /// It is not a valid JSON Schema.
    pub fn new(
        kind: &'static str,
        schema: Value,
        renamed: &'static [RenamedKey],
    ) -> Result<Self, String> {
        Ok(Self { kind, former_kind: None, schema: Schema::new(schema, renamed)? })
    }

    /// Sets what the kind was called before.
    pub fn formerly(self, former_kind: Option<&'static str>) -> Self {
        Self { former_kind, ..self }
    }

    /// Checks version and kind first: another kind of document would have a fault in every line.
    fn validate_head(&self, located: &Located, source: &str) -> Result<(), DocumentError> {
        let head = |key: &str| located.value.get(key).and_then(Value::as_str);
        let error = |key: &str, text: String| {
            Err(DocumentError::at(source, located.line(&format!("/{key}")), &text))
        };
        match head("apiVersion") {
            Some(API_VERSION) => {}
            Some(found) => {
                let found = sanitized(found);
                return error("apiVersion", format!("expected {API_VERSION}, found {found:?}"));
            }
            None => {
                let text = format!("apiVersion is missing; expected {API_VERSION}");
                return error("apiVersion", text);
            }
        }
        let expected = self.kind;
        match head("kind") {
            Some(found) if found == expected => Ok(()),
            Some(found) if self.former_kind == Some(found) => {
                error("kind", format!("kind is {found:?}; it is now {expected}"))
            }
            Some(found) => {
                error("kind", format!("expected a {expected}, found {:?}", sanitized(found)))
            }
            None => error("kind", format!("kind is missing; expected {expected}")),
        }
    }
}

/// Reads a document. `source` names it in errors.
///
/// # Errors
/// The document is invalid.
pub fn read<S: for<'de> Deserialize<'de>>(
    text: &str,
    source: &str,
    schema: &DocumentSchema,
) -> Result<(Located, Document<S>), DocumentError> {
    let located = Located::read(text).map_err(|error| DocumentError::yaml(source, &error))?;
    schema.validate_head(&located, source)?;
    DocumentError::all(source, schema.schema.faults(&located))?;
    // Deserialized from the text, not from the validated value: its errors have positions.
    let document =
        serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })
            .map_err(|error| DocumentError::yaml(source, &error))?;
    Ok((located, document))
}

fn fault(source: &str, line: u64, text: &str) -> String {
    format!("{source}:{line}: {}", sanitized(text))
}
