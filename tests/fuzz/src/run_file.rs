use crate::can_be_shown;
use salve::output;
use salve_core::digest;
use salve_core::journal::Entry;
use salve_core::report::Report;
use salve_run::{Disk, Journal, RunFile};
use std::io;
use std::sync::{Arc, Mutex};

/// A run file of a stranger: as it is, and with the right chain put before each of its lines, as somebody would who wants to deceive.
pub fn run_file(bytes: &[u8]) {
    read(bytes);
    read(&chained(bytes));
}

fn read(bytes: &[u8]) {
    let entries = match RunFile::take_up_over(Box::new(Paper::default()), bytes) {
        Ok((_, entries)) => entries,
        Err(error) => return can_be_shown(&error.to_string()),
    };
    let once = written(&entries);
    let (_, again) =
        RunFile::take_up_over(Box::new(Paper::default()), &once).expect("what we wrote we read");
    assert_eq!(written(&again), once, "writing and reading again changed it");
    if let Some(report) = Report::of(&entries) {
        serde_json::to_string(&report).expect("a report is JSON");
        can_be_shown(&output::markdown(&report));
        is_inert_page(&output::page(&report));
    }
}

/// What our pages are made of.
const TAGS: [&str; 31] = [
    "!doctype", "b", "body", "code", "dd", "details", "dl", "dt", "h1", "h2", "head", "html", "li",
    "meta", "ol", "p", "small", "span", "strong", "style", "summary", "table", "tbody", "td", "th",
    "thead", "title", "tr", "ul", "br", "time",
];

/// No word of the file is markup: a page has the tags that we write, none with anything that runs or fetches.
fn is_inert_page(page: &str) {
    can_be_shown(page);
    for tag in page.split('<').skip(1) {
        let tag = tag.split_once('>').expect("a tag ends").0;
        let name = tag
            .trim_start_matches('/')
            .split(|c: char| c.is_whitespace())
            .next()
            .unwrap_or_default();
        assert!(TAGS.contains(&name), "<{tag}> is none of ours");
        assert!(
            !["src=", "href=", "onload", "onerror", "onclick"]
                .iter()
                .any(|word| tag.contains(word)),
            "<{tag}> does something"
        );
    }
}

/// The chain of a run file, as `salve_run` documents it.
fn chained(bytes: &[u8]) -> Vec<u8> {
    let mut chain = "salve run file".to_owned();
    let mut file = vec![];
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        let Some(rest) = body.strip_prefix(b"{") else { continue };
        chain = digest::of_bytes(&[chain.as_bytes(), b"\n", body].concat());
        file.extend([b"{\"chain\":\"", chain.as_bytes(), b"\",", rest, b"\n"].concat());
    }
    file
}

fn written(entries: &[Entry]) -> Vec<u8> {
    let paper = Paper::default();
    let mut file = RunFile::over(Box::new(paper.clone()));
    for entry in entries {
        file.append(entry).expect("paper takes everything");
    }
    let bytes = paper.0.lock().expect("nobody panicked");
    bytes.clone()
}

/// A disk in memory.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Disk for Paper {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().expect("nobody panicked").extend(bytes);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
