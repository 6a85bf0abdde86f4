use crate::assert_printable;
use salve::output;
use salve_core::digest;
use salve_core::journal::Entry;
use salve_core::report::ReportBuilder;
use salve_run::{Disk, Journal, RunFile};
use std::io;
use std::sync::{Arc, Mutex};

/// Checks an untrusted run file: unchanged, and with a valid hash chain, as someone who forges a
/// run would write it.
pub fn run_file(bytes: &[u8]) {
    check(bytes);
    check(&with_hash_chain(bytes));
}

fn check(bytes: &[u8]) {
    let entries = match RunFile::resume_with_disk(Box::new(MemoryDisk::default()), bytes) {
        Ok((_, entries)) => entries,
        Err(error) => return assert_printable(&error.to_string()),
    };
    let written = write(&entries);
    let (_, reread) = RunFile::resume_with_disk(Box::new(MemoryDisk::default()), &written)
        .expect("a written run file is readable");
    assert_eq!(write(&reread), written, "writing and rereading changed the run file");
    if let Some(report) = ReportBuilder::of(&entries).map(ReportBuilder::into_report) {
        serde_json::to_string(&report).expect("a report serializes to JSON");
        assert_printable(&output::markdown(&report));
        assert_inert_html(&output::html(&report));
    }
}

/// The tags of an HTML report.
const TAGS: [&str; 31] = [
    "!doctype", "b", "body", "code", "dd", "details", "dl", "dt", "h1", "h2", "head", "html", "li",
    "meta", "ol", "p", "small", "span", "strong", "style", "summary", "table", "tbody", "td", "th",
    "thead", "title", "tr", "ul", "br", "time",
];

/// Panics if text of the run file becomes markup: the page may only contain the tags of a report,
/// without attributes that run or load something.
fn assert_inert_html(page: &str) {
    assert_printable(page);
    for tag in page.split('<').skip(1) {
        let tag = tag.split_once('>').expect("a tag has an end").0;
        let name = tag
            .trim_start_matches('/')
            .split(|c: char| c.is_whitespace())
            .next()
            .unwrap_or_default();
        assert!(TAGS.contains(&name), "<{tag}> is not a tag of a report");
        assert!(
            !["src=", "href=", "onload", "onerror", "onclick"]
                .iter()
                .any(|attribute| tag.contains(attribute)),
            "<{tag}> runs or loads something"
        );
    }
}

/// Adds the hash chain of a run file, as `salve_run` documents it.
fn with_hash_chain(bytes: &[u8]) -> Vec<u8> {
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

fn write(entries: &[Entry]) -> Vec<u8> {
    let disk = MemoryDisk::default();
    let mut file = RunFile::with_disk(Box::new(disk.clone()));
    for entry in entries {
        file.append(entry).expect("the disk is writable");
    }
    let bytes = disk.0.lock().expect("the mutex is not poisoned");
    bytes.clone()
}

#[derive(Clone, Default)]
struct MemoryDisk(Arc<Mutex<Vec<u8>>>);

impl Disk for MemoryDisk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().expect("the mutex is not poisoned").extend(bytes);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
