//! Run files: cut, damaged, locked, and on disks that fail.

use super::*;
use salve_core::capability::{Effect, Local, run::Now};
use salve_core::journal::{Done, Origin};
use salve_core::outcome::Outcome;
use std::os::unix::fs::PermissionsExt;

fn entry(n: u64) -> Entry {
    let outcome = Outcome::Ok(serde_json::value::to_raw_value(&7).unwrap());
    Entry::Done(Box::new(Done {
        n,
        origin: Origin::Guest,
        at: 0,
        effect: Effect::Local(Local::Now(Now {})),
        outcome,
        denial: None,
        observed: None,
        from_plan: None,
    }))
}

#[test]
fn a_synced_entry_is_readable_only_by_the_owner() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("state/runs");
    let mut file = RunFile::create(&runs, "a.jsonl").unwrap();
    file.append(&entry(1)).unwrap();
    file.sync().unwrap();
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&runs), mode(file.path())), (0o700, 0o600));
    assert!(matches!(RunFile::read(file.path()).unwrap().as_slice(), [Entry::Done(d)] if d.n == 1));
    assert!(RunFile::create(&runs, "a.jsonl").is_err(), "a run file is never overwritten");
}

fn written(folder: &Path, entries: u64) -> Vec<u8> {
    let mut file = RunFile::create(folder, "a.jsonl").unwrap();
    for n in 1..=entries {
        file.append(&entry(n)).unwrap();
    }
    file.sync().unwrap();
    std::fs::read(file.path()).unwrap()
}

#[test]
fn a_truncated_file_is_read_up_to_its_last_complete_line() {
    let folder = tempfile::tempdir().unwrap();
    let whole = written(folder.path(), 5);
    let cut = folder.path().join("cut");
    for end in 0..=whole.len() {
        std::fs::write(&cut, &whole[..end]).unwrap();
        let lines = whole[..end].iter().filter(|b| **b == b'\n').count();
        assert_eq!(RunFile::read(&cut).unwrap().len(), lines, "cut at {end}");
        assert_eq!(RunFile::read_first(&cut).unwrap().is_some(), lines > 0, "cut at {end}");
    }
}

#[test]
fn a_flipped_bit_is_detected_and_its_line_named() {
    let folder = tempfile::tempdir().unwrap();
    let whole = written(folder.path(), 3);
    let damaged = folder.path().join("damaged");
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            std::fs::write(&damaged, &bytes).unwrap();
            // Without its line feed, the last line is a torn one, which is not damage.
            match RunFile::read(&damaged) {
                Ok(entries) => {
                    assert!(at + 1 == whole.len() && entries.len() == 2, "bit {bit} of byte {at}")
                }
                Err(error) => assert!(error.to_string().contains("line "), "{error}"),
            }
        }
    }
}

#[test]
fn a_file_of_another_format_is_rejected_with_both_formats_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    for (format, salve) in [(1, "0.0.9"), (2, "0.1.0"), (FORMAT + 1, "9.0.0")] {
        let body = format!(r#"{{"header":{{"format":{format},"salve":"{salve}","run":"7c1d"}}}}"#);
        let chain = link(INITIAL_CHAIN, &body);
        let line = format!("{BEFORE_CHAIN}{chain}{AFTER_CHAIN}{}\n", &body[1..]);
        std::fs::write(&path, line).unwrap();
        let expected = format!(
            "{}, line 1: run file format {format} is not supported (this version reads format \
             {FORMAT}); finish or discard the run with the version of Salve that wrote it \
             ({salve})",
            path.display()
        );
        assert_eq!(RunFile::read(&path).unwrap_err().to_string(), expected);
        assert_eq!(RunFile::resume(&path).unwrap_err().to_string(), expected);
    }
}

#[test]
fn an_entry_survives_the_process_without_a_sync() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = RunFile::create(folder.path(), "a.jsonl").unwrap();
    file.append(&entry(1)).unwrap();
    // A killed process runs no destructor.
    std::mem::forget(file);
    assert_eq!(RunFile::read(&folder.path().join("a.jsonl")).unwrap().len(), 1);
}

#[test]
fn one_process_at_a_time_resumes_a_file_after_its_last_complete_line() {
    let folder = tempfile::tempdir().unwrap();
    let whole = written(folder.path(), 3);
    let path = folder.path().join("torn.jsonl");
    for cut in [whole.len(), whole.len() - 1, whole.len() - 40] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let (mut file, entries) = RunFile::resume(&path).unwrap();
        assert_eq!(RunFile::resume(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(RunFile::is_running(&path).unwrap());
        file.append(&entry(9)).unwrap();
        drop(file);
        assert!(!RunFile::is_running(&path).unwrap());
        let lines = entries.len() + 1;
        assert_eq!(RunFile::read(&path).unwrap().len(), lines, "cut at {cut}");
        assert_eq!(lines, if cut == whole.len() { 4 } else { 3 });
    }
    let mut damaged = whole.clone();
    damaged[20] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    assert!(RunFile::resume(&path).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), damaged, "a damaged file is not changed");
}

#[test]
fn a_listing_does_not_keep_a_run_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 1);
    let path = folder.path().join("a.jsonl");
    let open = || OpenOptions::new().read(true).append(true).open(&path).unwrap();
    // Two listings, which end one after the other.
    let mut listings = vec![open(), open()];
    listings.iter().for_each(|listing| listing.try_lock_shared().unwrap());
    let file = open();
    lock_after(&file, &path, || drop(listings.pop())).unwrap();
    assert!(listings.is_empty() && RunFile::is_running(&path).unwrap());
    // Another process that runs it is not waited for, whether a listing is in the way or not.
    let error = lock_after(&open(), &path, || panic!("waited for a run")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(file);
    assert!(!RunFile::is_running(&path).unwrap());
}

#[test]
fn a_damaged_file_is_continued_before_the_damage_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let whole = written(folder.path(), 4);
    let path = folder.path().join("b.jsonl");
    let ends: Vec<usize> =
        whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
    let zeros = |from: usize, to: usize| {
        let mut bytes = whole.clone();
        bytes[from..to].fill(0);
        bytes
    };
    let mut flipped = whole.clone();
    flipped[ends[1] + 90] ^= 1;
    let removed = [&whole[..ends[0]], &whole[ends[1]..]].concat();
    let appended = [&whole, b"not a line of Salve\n".as_slice()].concat();
    for (damaged, intact) in [
        // Pages that reached the disk before an earlier one.
        (zeros(ends[0], ends[1]), 1),
        (zeros(ends[1] + 10, ends[2] + 10), 2),
        (flipped, 2),
        (removed, 1),
        (appended, 4),
        ([&whole, b"\xff\xfe\n".as_slice()].concat(), 4),
    ] {
        std::fs::write(&path, &damaged).unwrap();
        assert!(RunFile::read(&path).is_err() && RunFile::resume(&path).is_err());
        let (mut file, entries, damage) = RunFile::resume_before_damage(&path).unwrap();
        let damage = damage.expect("the file is damaged");
        assert_eq!(entries.len(), intact);
        let line = format!("line {}: ", intact + 1);
        assert!(damage.error.to_string().contains(&line), "{}", damage.error);
        assert_eq!(std::fs::read(&damage.copy).unwrap(), damaged);
        let mode = std::fs::metadata(&damage.copy).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(RunFile::damaged_copies(&path).unwrap().last(), Some(&damage.copy));
        file.append(&entry(9)).unwrap();
        drop(file);
        assert_eq!(RunFile::read(&path).unwrap().len(), intact + 1);
    }
    assert_eq!(RunFile::damaged_copies(&path).unwrap().len(), 6);
    // A torn last line is not damage, and a file without an intact line is not continued.
    let other = folder.path().join("c.jsonl");
    std::fs::write(&other, &whole[..whole.len() - 1]).unwrap();
    let (_, entries, damage) = RunFile::resume_before_damage(&other).unwrap();
    assert!(entries.len() == 3 && damage.is_none());
    std::fs::write(&other, zeros(0, ends[0])).unwrap();
    assert!(RunFile::resume_before_damage(&other).unwrap_err().to_string().contains("line 1"));
    assert_eq!(std::fs::read(&other).unwrap(), zeros(0, ends[0]));
    assert!(RunFile::damaged_copies(&other).unwrap().is_empty());
}

/// Fails at the `at`th operation.
struct Failing {
    operations: usize,
    at: usize,
}

impl Failing {
    fn next(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.operations == self.at { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }
    }
}

impl Disk for Failing {
    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        self.next()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.next()
    }
}

#[test]
fn a_sync_reaches_the_disk() {
    // A pipe cannot be synced, and the system reports it.
    let (_reader, writer) = io::pipe().unwrap();
    assert!(Disk::sync(&mut File::from(std::os::fd::OwnedFd::from(writer))).is_err());
}

#[test]
fn after_an_error_no_more_entries_are_written() {
    for at in 1..=4 {
        let mut file = RunFile::with_disk(Box::new(Failing { operations: 0, at }));
        let mut failed = false;
        for n in 0..3 {
            let (appended, synced) = (file.append(&entry(n)), file.sync());
            assert!(
                !failed || appended.is_err() && synced.is_err(),
                "an entry was written after operation {at} failed"
            );
            failed |= appended.is_err() || synced.is_err();
        }
        assert!(failed);
    }
}

#[test]
fn missing_duplicate_and_swapped_lines_are_detected() {
    let folder = tempfile::tempdir().unwrap();
    let text = String::from_utf8(written(folder.path(), 4)).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let damaged = folder.path().join("damaged");
    for wrong in [[0, 2, 3].as_slice(), &[1, 2, 3], &[0, 1, 1, 2, 3], &[0, 2, 1, 3], &[0, 1, 3, 2]]
    {
        std::fs::write(&damaged, wrong.iter().map(|i| lines[*i]).collect::<String>()).unwrap();
        assert!(RunFile::read(&damaged).is_err(), "{wrong:?}");
    }
}
