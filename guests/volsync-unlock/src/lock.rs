//! The operation locks of Ceph CSI in its log lines: three exact texts, three kinds of key.
//!
//! Near misses (`flatten in progress`, `source Volume ID ... not found`, plain `already exists`) are
//! no locks: a restart does nothing for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Matched in the host, so that only such lines cross into the guest. [`Key::of`] has the last word.
pub const PATTERN: &str =
    "operation with (the given (Volume|Snapshot) ID|given id) [A-Za-z0-9-]{1,256} already exists";

/// What a lock is held on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A volume being made for the claim of this uid.
    Pvc(String),
    /// A snapshot being made for the VolumeSnapshot of this uid.
    Snapshot(String),
    /// A volume or snapshot that exists, by its CSI handle.
    Handle(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pvc(uid) => write!(f, "pvc-{uid}"),
            Self::Snapshot(uid) => write!(f, "snapshot-{uid}"),
            Self::Handle(handle) => f.write_str(handle),
        }
    }
}

impl Key {
    /// The key that this line says is locked.
    ///
    /// The key's own prefix decides, not the word before it: RBD logs `Snapshot ID` where it answers
    /// `Volume ID` for the same key.
    pub fn of(line: &str) -> Option<Self> {
        const GIVEN: [&str; 2] =
            ["an operation with the given Volume ID ", "an operation with the given Snapshot ID "];
        const OPERATIONS: [&str; 5] = ["Create", "Clone", "Restore", "Delete", "Expand"];
        let named = GIVEN.iter().filter_map(|lead| after(line, lead)).next();
        named.or_else(|| {
            OPERATIONS.iter().find_map(|operation| {
                ["a", "an"].iter().find_map(|article| {
                    after(line, &format!("{article} {operation} operation with given id "))
                })
            })
        })
    }

    fn read(word: &str) -> Option<Self> {
        if let Some(uid) = word.strip_prefix("pvc-") {
            return is_uuid(uid).then(|| Self::Pvc(uid.to_owned()));
        }
        if let Some(uid) = word.strip_prefix("snapshot-") {
            return is_uuid(uid).then(|| Self::Snapshot(uid.to_owned()));
        }
        is_handle(word).then(|| Self::Handle(word.to_owned()))
    }
}

/// The key between `lead`, which begins a word, and ` already exists`.
fn after(line: &str, lead: &str) -> Option<Key> {
    line.match_indices(lead).find_map(|(at, _)| {
        let begins_a_word = !line[..at].ends_with(|c: char| c.is_alphanumeric());
        let word = line[at + lead.len()..].split_once(" already exists")?.0;
        if begins_a_word { Key::read(word) } else { None }
    })
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && groups.iter().all(|group| is_hex(group))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `0001-<4 hex: length of the cluster's id>-<cluster's id>-<16 hex>-<uuid>`.
fn is_handle(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("0001-") else {
        return false;
    };
    let length = rest.get(..4).filter(|digits| is_hex(digits));
    let Some(length) = length.and_then(|digits| usize::from_str_radix(digits, 16).ok()) else {
        return false;
    };
    let Some((cluster, tail)) = rest.get(5..).and_then(|rest| rest.split_at_checked(length)) else {
        return false;
    };
    let sane = cluster.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let (Some(pool), Some(uuid)) = (tail.get(1..17), tail.get(18..)) else {
        return false;
    };
    sane && rest.as_bytes()[4] == b'-'
        && tail.starts_with('-')
        && is_hex(pool)
        && tail.as_bytes()[17] == b'-'
        && is_uuid(uuid)
}

/// When and where one key was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The oldest line, by the log's own time.
    pub first: u64,
    /// The newest line.
    pub last: u64,
    /// The pods that said so.
    pub pods: BTreeSet<String>,
}

/// All keys seen in the logs of a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sightings(pub BTreeMap<Key, Sighting>);

impl Sightings {
    /// Takes note of a line, if it tells of a lock.
    pub fn add(&mut self, pod: &str, time: u64, text: &str) {
        let Some(key) = Key::of(text) else { return };
        let sighting = self.0.entry(key).or_insert_with(|| Sighting {
            first: time,
            last: time,
            pods: BTreeSet::new(),
        });
        sighting.first = sighting.first.min(time);
        sighting.last = sighting.last.max(time);
        sighting.pods.insert(pod.to_owned());
    }

    /// Whether the volume of this claim is locked.
    pub fn locks_claim(&self, uid: &str) -> bool {
        self.0.contains_key(&Key::Pvc(uid.to_owned()))
    }

    /// Whether this snapshot is locked.
    pub fn locks_snapshot(&self, uid: &str) -> bool {
        self.0.contains_key(&Key::Snapshot(uid.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "77777777-7777-4777-8777-000000000021";
    const HANDLE: &str =
        "0001-0009-rook-ceph-0000000000000002-56565656-5656-4656-8656-565656565656";

    #[test]
    fn each_of_the_three_texts_names_its_key() {
        for (line, key) in [
            (
                format!(
                    "E0820 09:57:41.101102 1 controllerserver.go:362] ID: 9 Req-ID: pvc-{UID} an operation with the given Volume ID pvc-{UID} already exists"
                ),
                Key::Pvc(UID.into()),
            ),
            (
                format!(
                    "GRPC error: rpc error: code = Aborted desc = an operation with the given Volume ID snapshot-{UID} already exists"
                ),
                Key::Snapshot(UID.into()),
            ),
            (
                format!("an operation with the given Snapshot ID snapshot-{UID} already exists"),
                Key::Snapshot(UID.into()),
            ),
            (
                format!("desc = a Restore operation with given id {HANDLE} already exists"),
                Key::Handle(HANDLE.into()),
            ),
            (
                format!("an Expand operation with given id {HANDLE} already exists"),
                Key::Handle(HANDLE.into()),
            ),
            (
                format!("an operation with the given Volume ID {HANDLE} already exists"),
                Key::Handle(HANDLE.into()),
            ),
        ] {
            assert_eq!(Key::of(&line), Some(key), "{line}");
        }
    }

    #[test]
    fn look_alikes_and_broken_lines_are_no_locks() {
        for line in [
            "rpc error: code = Aborted desc = flatten in progress: flatten is in progress for image csi-vol-34343434",
            "code = NotFound desc = source Volume ID 0001-0009-rook-ceph-0000000000000002-deadbeef-0000-4000-8000-000000000000 not found",
            "volume pvc-77777777-7777-4777-8777-000000000021 already exists",
            "an operation with the given Volume ID pvc-77777777-7777-4777-8777-000000000021",
            "an operation with the given Volume ID pvc-77777777-7777-4777-8777-0000000000",
            "an operation with the given Volume ID pvc-7777777-7777-4777-8777-000000000021 already exists",
            "an operation with the given Volume ID  already exists",
            "an operation with the given Volume ID pvc-\u{1b}[31m77777777 already exists",
            "Xan operation with the given Volume ID pvc-77777777-7777-4777-8777-000000000021 already exists",
            "a Mount operation with given id 0001-0009-rook-ceph-0000000000000002-56565656-5656-4656-8656-565656565656 already exists",
            "a Restore operation with given id 0001-ffff-rook-ceph-0000 already exists",
            "a Restore operation with given id 0001-0009-rook-cephX0000000000000002-56565656-5656-4656-8656-565656565656 already exists",
            "a Restore operation with given id 0001-\u{fffd}\u{fffd} already exists",
            "",
        ] {
            assert_eq!(Key::of(line), None, "{line}");
        }
    }

    #[test]
    fn a_very_long_line_is_read_to_its_end() {
        let line = format!(
            "{} an operation with the given Volume ID pvc-{UID} already exists",
            "x".repeat(65_536)
        );
        assert_eq!(Key::of(&line), Some(Key::Pvc(UID.into())));
    }

    #[test]
    fn two_lines_of_one_rejection_are_one_sighting() {
        let mut seen = Sightings::default();
        let line = format!("an operation with the given Volume ID pvc-{UID} already exists");
        seen.add("b", 9_000, &line);
        seen.add("a", 5_000, &line);
        seen.add("a", 7_000, "nothing of the kind");
        let sighting = &seen.0[&Key::Pvc(UID.into())];
        assert_eq!((sighting.first, sighting.last, sighting.pods.len()), (5_000, 9_000, 2));
        assert!(seen.locks_claim(UID) && !seen.locks_snapshot(UID));
    }
}
