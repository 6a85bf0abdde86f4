//! Where the parts of a scenario come from, to name file and line in errors.

use std::sync::{Arc, OnceLock};

use salve_document::{DocumentError, Located};
use serde_json::{Map, Value};

/// The largest document of which the line of each part is determined, in bytes.
const MAX_LOCATED: usize = 16 << 20;

/// A YAML document of a file.
#[derive(Debug)]
pub struct Source {
    file: String,
    /// The document after as many empty lines as it has in front of it in the file.
    text: String,
    first_line: u64,
    located: OnceLock<Option<Located>>,
}

impl Source {
    /// Remembers a document that begins in a line of a file.
    pub fn new(file: &str, text: String, first_line: u64) -> Arc<Self> {
        let located = OnceLock::new();
        Arc::new(Source { file: file.to_owned(), text, first_line, located })
    }

    fn located(&self) -> Option<&Located> {
        let locate = || {
            let text = Some(&self.text).filter(|text| text.len() <= MAX_LOCATED)?;
            Located::read(text).ok()
        };
        self.located.get_or_init(locate).as_ref()
    }
}

/// A part of a document.
#[derive(Debug, Clone)]
pub struct Place {
    source: Arc<Source>,
    /// JSON pointer of the part.
    pointer: String,
}

impl Place {
    /// Returns the place of a whole document.
    pub fn document(source: Arc<Source>) -> Self {
        Place { source, pointer: String::new() }
    }

    /// Returns the place of a part, by its JSON pointer from here.
    pub fn at(&self, pointer: &str) -> Self {
        Place { source: self.source.clone(), pointer: format!("{}{pointer}", self.pointer) }
    }

    /// Returns the path as people write it: `spec.objects[0]`.
    pub fn path(&self) -> String {
        salve_document::dotted(&self.pointer)
    }

    /// Returns the part with the lines of its fields.
    pub fn read(&self) -> Option<Located> {
        self.source.located()?.part(&self.pointer)
    }

    /// Returns whether the document has something at a JSON pointer from here.
    pub fn has(&self, pointer: &str) -> bool {
        let pointer = format!("{}{pointer}", self.pointer);
        let located = self.source.located();
        located.is_some_and(|located| located.value.pointer(&pointer).is_some())
    }

    fn line(&self) -> u64 {
        self.source.located().map_or(self.source.first_line, |located| located.line(&self.pointer))
    }

    /// Returns an error about this part.
    pub fn error(&self, text: &str) -> DocumentError {
        DocumentError::at(&self.source.file, self.line(), text)
    }

    /// Returns the error for faults of fields of this part, or one that names none of them.
    pub fn faults(&self, faults: Vec<(u64, String)>, otherwise: &str) -> DocumentError {
        match DocumentError::all(&self.source.file, faults) {
            Err(error) => error,
            Ok(()) => self.error(otherwise),
        }
    }
}

/// Returns the documents of a YAML file, each after as many empty lines as it has in front of it,
/// with their first lines.
pub fn documents(text: &str) -> Vec<(String, u64)> {
    let mut documents = Vec::new();
    let mut current = String::new();
    let mut first_line = 1;
    let has_content = |text: &str| {
        text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    };
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if is_separator(line) {
            if has_content(&current) {
                documents.push((std::mem::take(&mut current), first_line));
            }
            current = "\n".repeat(number as usize);
            first_line = number + 1;
            // A document may begin in the line of its separator.
            let rest = line[3..].trim();
            if !rest.is_empty() && !rest.starts_with('#') {
                current = format!("{}    {rest}\n", "\n".repeat(number as usize - 1));
            }
        } else {
            current += line;
        }
    }
    if has_content(&current) {
        documents.push((current, first_line));
    }
    documents
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Returns the objects of a document: those of a list, also inside of lists.
pub fn flatten(place: Place, value: Value, into: &mut Vec<(Place, Value)>) {
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match value {
        Value::Object(mut object)
            if is_list && object.get("items").is_some_and(Value::is_array) =>
        {
            let Some(Value::Array(items)) = object.shift_remove("items") else { return };
            for (index, mut item) in items.into_iter().enumerate() {
                set_list_kind(&object, &mut item);
                flatten(place.at(&format!("/items/{index}")), item, into);
            }
        }
        value => into.push((place, value)),
    }
}

/// Sets the kind of an item of a list such as a PodList, whose items have none.
fn set_list_kind(list: &Map<String, Value>, item: &mut Value) {
    let kind = list["kind"].as_str().and_then(|kind| kind.strip_suffix("List"));
    if let (Some(kind), Some(item)) = (kind.filter(|kind| !kind.is_empty()), item.as_object_mut())
        && !item.contains_key("kind")
        && !item.contains_key("apiVersion")
    {
        let version = list.get("apiVersion").cloned().unwrap_or(Value::Null);
        item.insert("apiVersion".into(), version);
        item.insert("kind".into(), kind.into());
    }
}
