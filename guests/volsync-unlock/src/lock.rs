//! Detects the operation locks of Ceph CSI in its log.
//!
//! Sources: `internal/util/idlocker.go` of ceph-csi at v3.8.0 to v3.12.0, and at its main branch of
//! 2026-03 for the texts of [`QUOTED_OPERATIONS`].
//!
//! Similar texts (`flatten in progress`, `source Volume ID ... not found`, plain `already exists`)
//! are not locks: a restart does not clear them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Filters the log in the host, so that only candidates reach the guest. [`LockKey::parse`]
/// decides.
// mutant snapshot-locks-of-cephfs-unknown: (Volume|Snapshot) ID ~> Volume ID
pub const PATTERN: &str =
    "operation with (the given (Volume|Snapshot) ID|given id) [A-Za-z0-9_.-]{1,256} already exists";

/// One operation at a time per request name or handle.
const BY_ID: [&str; 2] =
    ["an operation with the given Volume ID ", "an operation with the given Snapshot ID "];

/// Operations that exclude each other on an existing volume or snapshot, up to ceph-csi 3.16.
const OPERATIONS: [&str; 5] = [
    "a Create operation with given id ",
    "a Clone operation with given id ",
    "a Restore operation with given id ",
    "a Delete operation with given id ",
    "an Expand operation with given id ",
];

/// The same since ceph-csi 3.17, after `cannot acquire lock for "delete", `.
const QUOTED_OPERATIONS: [&str; 6] = [
    "an \"create\" operation with given id ",
    "an \"clone\" operation with given id ",
    "an \"restore\" operation with given id ",
    "an \"delete\" operation with given id ",
    "an \"expand\" operation with given id ",
    "an \"modify\" operation with given id ",
];

/// What a lock protects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockKey {
    /// The volume being created for the PVC with this UID.
    Pvc(String),
    /// The snapshot being created for the VolumeSnapshot with this UID.
    Snapshot(String),
    /// The snapshots being created for the VolumeGroupSnapshot with this UID.
    GroupSnapshot(String),
    /// An existing volume or snapshot, by its CSI handle.
    Handle(String),
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pvc(uid) => write!(f, "pvc-{uid}"),
            Self::Snapshot(uid) => write!(f, "snapshot-{uid}"),
            Self::GroupSnapshot(uid) => write!(f, "groupsnapshot-{uid}"),
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
        // mutant lock-texts-of-3-17-unknown: .chain(&QUOTED_OPERATIONS) ~>
        BY_ID
            .iter()
            .chain(&OPERATIONS)
            .chain(&QUOTED_OPERATIONS)
            .find_map(|prefix| key_after(line, prefix))
    }

    fn from_id(id: &str) -> Option<Self> {
        if let Some(uid) = id.strip_prefix("pvc-") {
            return is_uuid(uid).then(|| Self::Pvc(uid.to_owned()));
        }
        if let Some(uid) = id.strip_prefix("snapshot-") {
            return is_uuid(uid).then(|| Self::Snapshot(uid.to_owned()));
        }
        if let Some(uid) = id.strip_prefix("groupsnapshot-") {
            return is_uuid(uid).then(|| Self::GroupSnapshot(uid.to_owned()));
        }
        (is_handle(id) || is_migrated_handle(id)).then(|| Self::Handle(id.to_owned()))
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

/// Checks for the handle of a volume that was migrated from the in-tree driver
/// (`internal/rbd/migration.go`): `mig_mons-<MD5 of the monitors>_image-<UUID>_<pool name in hex>`.
fn is_migrated_handle(text: &str) -> bool {
    let Some((monitors, image)) =
        text.strip_prefix("mig_mons-").and_then(|rest| rest.split_once("_image-"))
    else {
        return false;
    };
    let Some((uuid, pool)) = image.split_once('_') else { return false };
    monitors.len() == 32 && is_hex(monitors) && is_uuid(uuid) && !pool.is_empty() && is_hex(pool)
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

    /// Returns the keys that were logged since `before`.
    pub fn newer_than(&self, before: &Self) -> BTreeSet<LockKey> {
        let is_newer = |(key, sighting): &(&LockKey, &Sighting)| {
            before.0.get(*key).is_none_or(|earlier| sighting.last > earlier.last)
        };
        self.0.iter().filter(is_newer).map(|(key, _)| key.clone()).collect()
    }

    pub fn contains_pvc(&self, uid: &str) -> bool {
        self.0.contains_key(&LockKey::Pvc(uid.to_owned()))
    }

    pub fn contains_snapshot(&self, uid: &str) -> bool {
        self.0.contains_key(&LockKey::Snapshot(uid.to_owned()))
    }
}

#[cfg(test)]
#[path = "tests/lock.rs"]
mod tests;
