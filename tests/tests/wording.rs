//! Rejects the terms of `tests/retired-words.txt` in sources, WIT, help texts, and documents, and
//! long lines in sources.

use regex::RegexBuilder;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const LIST: &str = "tests/retired-words.txt";

/// Reports of earlier runs, inputs of fuzzing, and generated files.
const EXCLUDED: [&str; 5] =
    ["docs/", "tests/fuzz/corpus/", "LICENSE", LIST, "tests/tests/wording.rs"];
const EXCLUDED_ENDINGS: [&str; 3] = [".lock", "go.sum", "go.mod"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns all text files that Git tracks or would add.
fn files() -> Vec<(String, String)> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is installed");
    let names = String::from_utf8(output.stdout).unwrap();
    names
        .lines()
        .filter(|name| !EXCLUDED.iter().any(|excluded| name.starts_with(excluded)))
        .filter(|name| !EXCLUDED_ENDINGS.iter().any(|ending| name.ends_with(ending)))
        .filter_map(|name| {
            Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?))
        })
        .collect()
}

/// Returns a pattern for a term: whole words in any case, also across a line break in a comment.
fn pattern(term: &str) -> String {
    let words: Vec<String> = term.split_whitespace().map(regex::escape).collect();
    let (start, end) = (term.starts_with(is_word), term.ends_with(is_word));
    let bound = |is_word| if is_word { r"\b" } else { "" };
    format!("{}{}{}", bound(start), words.join(r"[\s/*#!|\\]+"), bound(end))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn no_retired_term_is_used() {
    let list = std::fs::read_to_string(root().join(LIST)).unwrap();
    let terms: Vec<&str> =
        list.lines().map(str::trim).filter(|t| !t.is_empty() && !t.starts_with('#')).collect();
    assert!(terms.len() > 100, "only {} terms", terms.len());
    let any = terms.iter().map(|term| pattern(term)).collect::<Vec<_>>().join("|");
    let any = RegexBuilder::new(&any).case_insensitive(true).size_limit(64 << 20).build().unwrap();
    let mut found = String::new();
    for (name, text) in files() {
        for hit in any.find_iter(&text) {
            let line = text[..hit.start()].matches('\n').count() + 1;
            let _ = writeln!(found, "{name}:{line}: {:?}", hit.as_str());
        }
    }
    assert!(found.is_empty(), "retired terms (see {LIST}):\n{found}");
}

/// `cargo fmt` leaves long comments and strings as they are. Strings and URLs may be longer.
#[test]
fn lines_of_the_product_have_at_most_100_columns() {
    let is_product = |name: &str| {
        let is_source = name.ends_with(".rs") && name.contains("/src/") && !name.contains("test");
        is_source || name.ends_with(".wit")
    };
    let mut long = String::new();
    for (name, text) in files().into_iter().filter(|(name, _)| is_product(name)) {
        for (n, line) in text.lines().enumerate() {
            let may_be_longer = line.contains('"') || line.contains("http");
            if line.chars().count() > 100 && !may_be_longer {
                let _ = writeln!(long, "{name}:{}", n + 1);
            }
        }
    }
    assert!(long.is_empty(), "longer than 100 columns:\n{long}");
}

#[test]
fn a_retired_phrase_is_found_across_lines_and_a_part_of_a_word_is_not() {
    let matches = |term: &str, text: &str| {
        RegexBuilder::new(&pattern(term)).case_insensitive(true).build().unwrap().is_match(text)
    };
    assert!(matches("way back", "// the Way\n    // back"));
    assert!(matches("anew", "made anew."));
    assert!(!matches("anew", "a newer one, Kanewski"));
}
