//! Planted bugs: dangerous edits of production code, each of which must make a named test fail.
//!
//! `tests/mutants.yaml` names a bug and its test. The edit is a comment in the source:
//!
//! ```text
//! // mutant delete-without-uid: "uid": uid ~>
//! let mut preconditions = json!({"uid": uid});
//! ```
//!
//! It replaces the first occurrence of the code left of `~>` below the comment with the code right
//! of it. Whitespace does not matter. A long edit continues on comment lines indented by four more
//! spaces.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The list of planted bugs, relative to the repository.
pub const LIST: &str = "tests/mutants.yaml";

/// Folders whose sources contain edits.
const SOURCES: [&str; 2] = ["host", "guests"];

/// An edit may change code at most this many lines below its comment.
const MAX_DISTANCE: usize = 20;

/// A planted bug.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlantedBug {
    pub name: String,
    /// What the program does wrong with the edit, in one sentence.
    pub bug: String,
    /// The package of the test.
    pub package: String,
    /// The test target; `lib` for unit tests.
    pub target: String,
    /// The test that fails with the edit.
    pub caught_by: String,
    #[serde(skip)]
    edit: Edit,
}

#[derive(Clone, Debug, Default)]
struct Edit {
    /// Relative to the repository.
    file: PathBuf,
    code: String,
    replacement: String,
}

impl PlantedBug {
    /// Returns the file that the edit changes, relative to the repository.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.edit.file
    }

    /// Applies the edit to the text of [`file`](Self::file).
    ///
    /// # Errors
    /// The comment or the code that it edits is missing, or the edit changes nothing.
    pub fn plant(&self, text: &str) -> Result<String, String> {
        let comments = comments(text);
        let comment = comments.iter().find(|comment| comment.name == self.name);
        let end = comment
            .ok_or_else(|| format!("{}: no comment in {}", self.name, self.file().display()))?
            .span
            .end;
        let mut code = text.as_bytes().to_vec();
        for comment in &comments {
            code[comment.span.clone()].fill(b' ');
        }
        let found = find(&code, end, &self.edit.code)
            .filter(|found| text[end..found.start].matches('\n').count() <= MAX_DISTANCE)
            .ok_or_else(|| {
                format!(
                    "{}: {:?} is not below its comment in {}",
                    self.name,
                    self.edit.code,
                    self.file().display()
                )
            })?;
        let planted = [&text[..found.start], &self.edit.replacement, &text[found.end..]].concat();
        if planted == text {
            return Err(format!("{}: the edit changes nothing", self.name));
        }
        Ok(planted)
    }
}

/// Reads the list and joins it with the comments in the sources.
///
/// # Errors
/// One line per entry without a comment, comment without an entry, duplicate name, or edit that
/// cannot be applied.
pub fn load(repository: &Path) -> Result<Vec<PlantedBug>, String> {
    let list = repository.join(LIST);
    let text = read(&list)?;
    let mut bugs: Vec<PlantedBug> =
        serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", list.display()))?;
    let mut errors = vec![];
    let mut edits: BTreeMap<String, Edit> = BTreeMap::new();
    for file in SOURCES.iter().flat_map(|folder| rust_files(&repository.join(folder))) {
        for comment in comments(&read(&file)?) {
            let Some((code, replacement)) = comment.edit.split_once("~>") else {
                errors.push(format!(
                    "{}: no `~>` in its comment in {}",
                    comment.name,
                    file.display()
                ));
                continue;
            };
            let edit = Edit {
                file: file.strip_prefix(repository).unwrap_or(&file).to_owned(),
                code: code.trim().to_owned(),
                replacement: replacement.trim().to_owned(),
            };
            if edits.insert(comment.name.clone(), edit).is_some() {
                errors.push(format!("{}: more than one comment", comment.name));
            }
        }
    }
    let mut names = BTreeSet::new();
    for bug in &mut bugs {
        if !names.insert(bug.name.clone()) {
            errors.push(format!("{}: more than one entry", bug.name));
        }
        let Some(edit) = edits.remove(&bug.name) else {
            errors.push(format!("{}: no comment in the sources", bug.name));
            continue;
        };
        bug.edit = edit;
        if let Err(error) = bug.plant(&read(&repository.join(bug.file()))?) {
            errors.push(error);
        }
    }
    errors.extend(
        edits
            .keys()
            .filter(|name| !names.contains(*name))
            .map(|name| format!("{name}: a comment without an entry in {LIST}")),
    );
    if errors.is_empty() { Ok(bugs) } else { Err(errors.join("\n")) }
}

struct Comment {
    name: String,
    edit: String,
    /// The byte range of its lines.
    span: Range<usize>,
}

fn comments(text: &str) -> Vec<Comment> {
    let mut found: Vec<Comment> = vec![];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let span = at..at + line.len();
        at = span.end;
        let line = line.trim();
        if let Some((name, edit)) =
            line.strip_prefix("// mutant ").and_then(|rest| rest.split_once(':'))
        {
            found.push(Comment { name: name.to_owned(), edit: edit.trim().to_owned(), span });
        } else if let (Some(rest), Some(last)) = (line.strip_prefix("//     "), found.last_mut())
            && last.span.end == span.start
        {
            last.edit.push(' ');
            last.edit.push_str(rest);
            last.span.end = span.end;
        }
    }
    found
}

/// Finds `code` at or after `from`, ignoring whitespace.
fn find(text: &[u8], from: usize, code: &str) -> Option<Range<usize>> {
    let code: Vec<u8> = code.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    (from..text.len()).find_map(|start| {
        let mut matched = 0;
        for (offset, byte) in text[start..].iter().enumerate() {
            if byte.is_ascii_whitespace() && matched > 0 {
                continue;
            }
            if *byte != *code.get(matched)? {
                return None;
            }
            matched += 1;
            if matched == code.len() {
                return Some(start..start + offset + 1);
            }
        }
        None
    })
}

/// Returns all `.rs` files below `folder`, without build output, sorted.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
