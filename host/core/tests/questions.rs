//! Checks that leaving any question of `capability/call.rs` unanswered stops the build, with an
//! error that names the question.
//!
//! A complete answer to each trait is compiled once without any one of its items, all as modules of
//! one file, with one call of rustc.

#![expect(clippy::disallowed_methods, reason = "the test compiles a file with rustc")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The traits of `call.rs`, each with one complete implementation. An item starts at a line `//-`.
const ANSWERS: [(&str, &str); 5] = [
    (
        "Call",
        "//- Answer
type Answer = u8;
//- targets
fn targets(&self) -> Vec<Target> { vec![] }
//- validate
fn validate(&self) -> Result<(), Error> { Ok(()) }
",
    ),
    (
        "LocalCall",
        "//- observes_time
fn observes_time(&self) -> bool { false }
//- text_bytes
fn text_bytes(&self) -> usize { 0 }
",
    ),
    (
        "ReadCall",
        "//- requests
fn requests(_: Option<&Grant>) -> Vec<Rule> { vec![] }
//- waits
fn waits(&self) -> Duration { Duration::ZERO }
//- observes_time
fn observes_time(&self) -> bool { false }
//- ends_plan
fn ends_plan(&self) -> Option<&'static str> { None }
//- overlay
fn overlay(&self, _: &PlannedChanges, answer: u8) -> u8 { answer }
//- evidence
fn evidence(&self, _: &u8) -> Vec<EvidenceItem> { vec![] }
//- predicate
fn predicate() -> Predicate { Predicate::None }
//- evaluate
fn evaluate(&self, _: &Problem, _: &u8, _: &[Evaluation]) -> Evaluation { Evaluation::default() }
//- verification
fn verification(&self, _: &Problem, _: Millis, _: Option<&u8>) -> Option<Self> { None }
//- observe
fn observe(&self, _: &u8, _: &mut Observations) {}
",
    ),
    (
        "WriteCall",
        "//- Reversal
type Reversal = Permanent;
//- requests
fn requests(_: Option<&Grant>) -> Vec<Rule> { vec![] }
//- fields
fn fields(&self) -> Vec<FieldPath> { vec![] }
//- granted_fields
fn granted_fields(_: &Grant) -> Vec<FieldPath> { vec![] }
//- limit
fn limit() -> Option<Limit> { None }
//- requires_evidence
fn requires_evidence(&self) -> bool { true }
//- judged_object
fn judged_object<'a>(&'a self, _: &Target, _: &'a [Value]) -> Option<&'a Value> { None }
//- predict
fn predict(&self, _: &ObservedState, _: Millis) -> u8 { 0 }
//- plan
fn plan(&self, _: &mut PlannedChanges) {}
//- commands
fn commands(&self, _: Option<&ObservedState>) -> Vec<String> { vec![] }
//- details
fn details(&self, _: &Observations, _: &str, _: Option<&ObservedState>) -> Vec<ObjectDetails> {
    vec![]
}
//- difference
fn difference(&self, _: &Self) -> Option<String> { None }
//- allowed_after_plan
fn allowed_after_plan(&self, _: &[&Write]) -> bool { false }
//- binds
fn binds(&self, _: &Value) -> bool { true }
//- waits
fn waits(&self) -> Duration { Duration::ZERO }
//- durability
fn durability(&self) -> Durability { Durability::Synced }
//- stamp
fn stamp(&self, _: Millis, _: u64) -> Option<Millis> { None }
//- assemble
fn assemble(&self, parts: Vec<u8>, unfinished: Option<&Unfinished>) -> Result<u8, Error> {
    single(parts, unfinished)
}
//- failure
fn failure<'a>(&self, _: &'a u8) -> Option<&'a Error> { None }
//- summary
fn summary(&self, _: &u8) -> Summary { Summary::Ok }
//- may_return
fn may_return(&self, _: &u8) -> Vec<String> { vec![] }
//- applied_at
fn applied_at(&self, _: &u8) -> Option<Millis> { None }
//- undone_by
fn undone_by() -> Option<Function> { None }
//- reversals
fn reversals(&self, _: &ObservedState, _: Option<&u8>) -> Vec<Pending<Permanent>> { vec![] }
",
    ),
    (
        "ReversalCall",
        "//- requests
fn requests(_: Option<&Grant>) -> Vec<Rule> { vec![] }
//- fields
fn fields(&self) -> Vec<FieldPath> { vec![] }
//- granted_fields
fn granted_fields(_: &Grant) -> Vec<FieldPath> { vec![] }
//- leftover_requests
fn leftover_requests() -> Vec<Rule> { vec![] }
//- commands
fn commands(&self) -> Vec<String> { vec![] }
//- cleanup_commands
fn cleanup_commands(&self) -> Vec<String> { vec![] }
//- still_active
fn still_active(&self, _: bool) -> String { String::new() }
//- brings_back
fn brings_back(&self) -> Option<String> { None }
//- is_planned
fn is_planned(&self) -> bool { true }
",
    ),
];

const IMPORTS: &str = "
#![allow(unused_imports)]
use salve_core::Millis;
use salve_core::capability::call::*;
use salve_core::capability::*;
use salve_core::footprint::{FieldPath, Rule};
use salve_core::grants::{EvidenceItem, Grant};
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_core::problem::{Evaluation, Predicate, Problem};
use serde_json::Value;
use std::time::Duration;
";

/// Returns the items of an answer sheet, by name.
fn items(sheet: &str) -> BTreeMap<&str, &str> {
    let items = sheet.split("//- ").skip(1);
    items.map(|item| item.split_once('\n').expect("a name, then the item")).collect()
}

/// Returns a module that implements `traits`, without the item `omitted` of one of them.
fn module(name: &str, traits: &[&str], omitted: Option<(&str, &str)>) -> String {
    let sheets: BTreeMap<&str, &str> = ANSWERS.into_iter().collect();
    let released = traits.contains(&"ReversalCall");
    let mut text = format!("mod {name} {{ use super::*;\n");
    text += "#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]\n";
    text += "struct Answered {}\n";
    for each in traits {
        text += &format!("impl {each} for Answered {{\n");
        for (item, code) in items(sheets[each]) {
            if omitted != Some((each, item)) {
                let code = if released { code.replace("u8", "Released") } else { code.to_owned() };
                text += &code;
            }
        }
        text += "}\n";
    }
    text + "}\n"
}

/// Returns the libraries of a crate among this test's own dependencies, newest first.
fn libraries(folder: &Path, name: &str) -> Vec<PathBuf> {
    let prefix = format!("lib{name}-");
    let mut libraries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rlib"))
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&prefix))
        .collect();
    libraries.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().modified().unwrap()));
    libraries
}

/// The libraries that salve_core was built with. A folder of builds can have several of each.
struct Libraries {
    folder: PathBuf,
    externs: Vec<String>,
}

impl Libraries {
    /// Finds the first combination with which complete answers compile.
    fn find() -> Self {
        let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let core = libraries(&folder, "salve_core");
        let mut errors = String::new();
        for serde in libraries(&folder, "serde") {
            for json in libraries(&folder, "serde_json") {
                let externs = [("salve_core", &core[0]), ("serde", &serde), ("serde_json", &json)]
                    .map(|(name, library)| format!("{name}={}", library.display()));
                let candidate = Self { folder: folder.clone(), externs: externs.into() };
                errors = candidate.compile(&complete());
                if errors.is_empty() {
                    return candidate;
                }
            }
        }
        panic!("complete answers do not compile:\n{errors}");
    }

    /// Compiles a file and returns the errors, one per line.
    fn compile(&self, code: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("answers.rs");
        std::fs::write(&file, code).unwrap();
        let mut command = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()));
        command.args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata"]);
        command.args(["--error-format", "short", "--out-dir"]).arg(folder.path());
        command.arg("-L").arg(format!("dependency={}", self.folder.display()));
        for library in &self.externs {
            command.arg("--extern").arg(library);
        }
        let output = command.arg(&file).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        let is_error = |line: &&str| line.contains(": error") && !line.contains("aborting");
        errors.lines().filter(is_error).map(|line| format!("{line}\n")).collect()
    }
}

/// Returns a complete answer to every trait.
fn complete() -> String {
    let modules =
        GROUPS.iter().enumerate().map(|(n, traits)| module(&format!("m{n}"), traits, None));
    modules.fold(IMPORTS.to_owned(), |code, module| code + &module)
}

/// The traits that a function of each group implements.
const GROUPS: [&[&str]; 4] = [
    &["Call", "LocalCall"],
    &["Call", "ReadCall"],
    &["Call", "WriteCall"],
    &["Call", "ReversalCall"],
];

#[test]
fn a_question_left_unanswered_stops_the_build_and_is_named() {
    let mut code = IMPORTS.to_owned();
    let mut expected = vec![];
    for (n, traits) in GROUPS.iter().enumerate() {
        for each in traits.iter().filter(|each| **each != "Call" || n == 0) {
            let (_, sheet) = ANSWERS.iter().find(|(name, _)| name == each).unwrap();
            // Without its answer's type, nothing else of `Call` can be checked.
            for item in items(sheet).into_keys().filter(|item| *item != "Answer") {
                code += &module(&format!("m{}", expected.len()), traits, Some((each, item)));
                expected.push(item);
            }
        }
    }
    let errors = Libraries::find().compile(&code);
    let missing: Vec<&str> = errors.lines().collect();
    assert_eq!(missing.len(), expected.len(), "{errors}");
    for (line, item) in missing.iter().zip(&expected) {
        assert!(line.contains("E0046") && line.contains(&format!("`{item}`")), "{item}: {line}");
    }
}

/// The sheets above cover every question, and no trait answers one by default.
#[test]
fn every_item_of_the_traits_is_a_question() {
    let source = include_str!("../src/capability/call.rs");
    for (name, sheet) in ANSWERS {
        let start = source.find(&format!("pub trait {name}")).expect("the trait is there");
        let body = &source[start..start + source[start..].find("\n}\n").unwrap()];
        let declared: BTreeSet<&str> = body
            .lines()
            .filter_map(|line| line.strip_prefix("    fn ").or(line.strip_prefix("    type ")))
            .map(|rest| rest.split(['(', '<', ':']).next().unwrap())
            .collect();
        assert_eq!(declared, items(sheet).into_keys().collect(), "{name}");
        assert!(!body.contains(" {\n        "), "{name} has a default method");
    }
}
