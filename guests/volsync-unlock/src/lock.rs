//! Detects the operation locks of Ceph CSI in its log: three exact texts, three kinds of keys.
//!
//! Similar texts (`flatten in progress`, `source Volume ID ... not found`, plain `already exists`)
//! are not locks: a restart does not clear them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Filters the log in the host, so that only candidates reach the guest. [`LockKey::parse`]
/// decides.
pub const PATTERN: &str =
    "operation with (the given (Volume|Snapshot) ID|given id) [A-Za-z0-9-]{1,256} already exists";

/// What a lock protects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockKey {
    /// The volume being created for the PVC with this UID.
    Pvc(String),
    /// The snapshot being created for the VolumeSnapshot with this UID.
    Snapshot(String),
    /// An existing volume or snapshot, by its CSI handle.
    Handle(String),
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pvc(uid) => write!(f, "pvc-{uid}"),
            Self::Snapshot(uid) => write!(f, "snapshot-{uid}"),
            Self::Handle(handle) => f.write_str(handle),
        }
    }
}

impl LockKey {
    /// Returns the key that a log line reports as locked.
    ///
    /// The prefix of the key determines its kind, not the text before it: for the same key, RBD
    /// logs `Snapshot ID` but responds with `Volume ID`.
    pub fn parse(line: &str) -> Option<Self> {
        const BY_ID: [&str; 2] =
            ["an operation with the given Volume ID ", "an operation with the given Snapshot ID "];
        const OPERATIONS: [&str; 5] = ["Create", "Clone", "Restore", "Delete", "Expand"];
        let by_id = BY_ID.iter().find_map(|prefix| key_after(line, prefix));
        by_id.or_else(|| {
            OPERATIONS.iter().find_map(|operation| {
                ["a", "an"].iter().find_map(|article| {
                    key_after(line, &format!("{article} {operation} operation with given id "))
                })
            })
        })
    }

    fn from_id(id: &str) -> Option<Self> {
        if let Some(uid) = id.strip_prefix("pvc-") {
            return is_uuid(uid).then(|| Self::Pvc(uid.to_owned()));
        }
        if let Some(uid) = id.strip_prefix("snapshot-") {
            return is_uuid(uid).then(|| Self::Snapshot(uid.to_owned()));
        }
        is_handle(id).then(|| Self::Handle(id.to_owned()))
    }
}

/// Returns the key between `prefix`, which must start at a word boundary, and ` already exists`.
fn key_after(line: &str, prefix: &str) -> Option<LockKey> {
    line.match_indices(prefix).find_map(|(at, _)| {
        let is_at_word_start = !line[..at].ends_with(|c: char| c.is_alphanumeric());
        let id = line[at + prefix.len()..].split_once(" already exists")?.0;
        if is_at_word_start { LockKey::from_id(id) } else { None }
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

/// Checks for `0001-<length of the cluster ID: 4 hex>-<cluster ID>-<pool: 16 hex>-<UUID>`.
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
    let is_cluster_id = cluster.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let (Some(pool), Some(uuid)) = (tail.get(1..17), tail.get(18..)) else {
        return false;
    };
    is_cluster_id
        && rest.as_bytes()[4] == b'-'
        && tail.starts_with('-')
        && is_hex(pool)
        && tail.as_bytes()[17] == b'-'
        && is_uuid(uuid)
}

/// When and where a key was logged as locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Timestamp of the oldest log line, in milliseconds since the epoch.
    pub first: u64,
    /// Timestamp of the newest log line, in milliseconds since the epoch.
    pub last: u64,
    /// The pods that logged it.
    pub pods: BTreeSet<String>,
}

/// All keys that a controller logged as locked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sightings(pub BTreeMap<LockKey, Sighting>);

impl Sightings {
    /// Adds a log line of `pod`, if it reports a lock.
    pub fn add(&mut self, pod: &str, time: u64, line: &str) {
        let Some(key) = LockKey::parse(line) else { return };
        let sighting = self.0.entry(key).or_insert_with(|| Sighting {
            first: time,
            last: time,
            pods: BTreeSet::new(),
        });
        sighting.first = sighting.first.min(time);
        sighting.last = sighting.last.max(time);
        sighting.pods.insert(pod.to_owned());
    }

    pub fn contains_pvc(&self, uid: &str) -> bool {
        self.0.contains_key(&LockKey::Pvc(uid.to_owned()))
    }

    pub fn contains_snapshot(&self, uid: &str) -> bool {
        self.0.contains_key(&LockKey::Snapshot(uid.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "77777777-7777-4777-8777-000000000021";
    const HANDLE: &str =
        "0001-0009-rook-ceph-0000000000000002-56565656-5656-4656-8656-565656565656";

    #[test]
    fn each_of_the_three_texts_yields_its_key() {
        for (line, key) in [
            (
                format!(
                    "E0820 09:57:41.101102 1 controllerserver.go:362] ID: 9 Req-ID: pvc-{UID} an operation with the given Volume ID pvc-{UID} already exists"
                ),
                LockKey::Pvc(UID.into()),
            ),
            (
                format!(
                    "GRPC error: rpc error: code = Aborted desc = an operation with the given Volume ID snapshot-{UID} already exists"
                ),
                LockKey::Snapshot(UID.into()),
            ),
            (
                format!("an operation with the given Snapshot ID snapshot-{UID} already exists"),
                LockKey::Snapshot(UID.into()),
            ),
            (
                format!("desc = a Restore operation with given id {HANDLE} already exists"),
                LockKey::Handle(HANDLE.into()),
            ),
            (
                format!("an Expand operation with given id {HANDLE} already exists"),
                LockKey::Handle(HANDLE.into()),
            ),
            (
                format!("an operation with the given Volume ID {HANDLE} already exists"),
                LockKey::Handle(HANDLE.into()),
            ),
        ] {
            assert_eq!(LockKey::parse(&line), Some(key), "{line}");
        }
    }

    #[test]
    fn similar_and_malformed_lines_are_not_locks() {
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
            assert_eq!(LockKey::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_very_long_line_is_parsed_to_its_end() {
        let line = format!(
            "{} an operation with the given Volume ID pvc-{UID} already exists",
            "x".repeat(65_536)
        );
        assert_eq!(LockKey::parse(&line), Some(LockKey::Pvc(UID.into())));
    }

    #[test]
    fn two_lines_for_one_key_are_one_sighting() {
        let mut sightings = Sightings::default();
        let line = format!("an operation with the given Volume ID pvc-{UID} already exists");
        sightings.add("b", 9_000, &line);
        sightings.add("a", 5_000, &line);
        sightings.add("a", 7_000, "an unrelated line");
        let sighting = &sightings.0[&LockKey::Pvc(UID.into())];
        assert_eq!((sighting.first, sighting.last, sighting.pods.len()), (5_000, 9_000, 2));
        assert!(sightings.contains_pvc(UID) && !sightings.contains_snapshot(UID));
    }
}
