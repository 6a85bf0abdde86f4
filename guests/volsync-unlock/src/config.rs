//! What a person may say to this guest: every key with its default, unit and sentence.

use salve_sdk::query_drivers::Selector;
use salve_sdk::{Error, ObjectRef, Schema};

/// How much of the playbook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only what the evidence speaks against.
    Evidence,
    /// Every ReplicationSource of the listed namespaces, as the playbook literally says.
    All,
}

/// A configuration that makes sense. Lengths of time are milliseconds.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names and globs of namespaces.
    pub namespaces: Vec<String>,
    /// The source of Flux to freeze with the owners.
    pub source: Option<ObjectRef>,
    /// The driver whose controller holds the locks.
    pub driver: Selector,
    /// Where that controller runs.
    pub driver_namespace: String,
    /// How much of the playbook.
    pub mode: Mode,
    /// Act without evidence.
    pub evidence_waived: bool,
    /// How far back the log is read.
    pub log_window: u64,
    /// How far apart two samples of a key must be.
    pub sample_gap: u64,
    /// Consent: let pending deletions of claims complete.
    pub complete_deletions: bool,
    /// Consent: delete sources that nobody re-creates.
    pub delete_hand_made: bool,
    /// Consent: delete sources with keys that peers know.
    pub delete_identities: bool,
    /// Sources deleted at once.
    pub deletions_at_once: u32,
    /// Pause between two groups.
    pub deletion_pause: u32,
    /// Seconds that a reconciliation in progress may take to end.
    pub drain_seconds: u32,
    /// For cascaded snapshots.
    pub snapshot_wait: u64,
    /// For the new pods.
    pub rollout_wait: u64,
    /// For the leases, beside that.
    pub lease_wait: u64,
    /// For restores, before backups return.
    pub restore_wait: u64,
    /// Owners resumed at once.
    pub resume_at_once: usize,
    /// For the sources of one group of owners.
    pub resume_wait: u64,
    /// How long the post-condition must hold.
    pub settle: u64,
    /// How long claims may take to recover.
    pub recovery: u64,
}

/// The keys.
pub fn schema() -> Schema {
    Schema::new()
        .texts(
            "namespaces",
            &["ai", "home-automation", "media", "observability", "security", "selfhosted"],
            "Where to look for ReplicationSources and claims: names, or globs with * and ?.",
        )
        .text("source", "flux-system/flux-system", "The Flux source (namespace/name) to suspend with the owners, as the playbook does; empty for none.")
        .text("driver", "rook-ceph.rbd.csi.ceph.com", "The CSI driver whose controller holds the locks.")
        .text("storage-class", "", "Find the driver by this StorageClass instead; empty to use `driver`.")
        .text("driver-namespace", "rook-ceph", "The namespace of the driver's controller.")
        .choice("mode", &["evidence", "all"], "Delete the sources that the evidence speaks against, or literally all of the listed namespaces.")
        .choice("evidence", &["required", "waived"], "Whether locks must be seen before anything is changed.")
        .number("log-window", 3600, "seconds", 60..=86_400, "How far back the controller's log is read.")
        .number("sample-gap", 180, "seconds", 0..=3600, "How far apart two samples of a lock key must be where no claim is seen to wait for it.")
        .flag("complete-deletions", "Consent: claims being deleted on volumes with reclaim policy Delete lose their data once the jam is cleared.")
        .flag("delete-hand-made", "Consent: delete sources that nobody re-creates.")
        .flag("delete-identities", "Consent: delete sources whose keys or identity peers know (rsync, rsync-TLS, syncthing).")
        .number("deletions-at-once", 5, "sources", 1..=64, "Sources deleted at once.")
        .number("deletion-pause", 1000, "milliseconds", 0..=60_000, "Pause between two groups of deletions.")
        .number("drain-seconds", 300, "seconds", 1..=3600, "How long a reconciliation in progress may take to end.")
        .number("snapshot-wait", 120, "seconds", 0..=3600, "How long to wait for the snapshots of deleted sources to go.")
        .number("rollout-wait", 300, "seconds", 10..=3600, "How long the controller's new pods may take.")
        .number("lease-wait", 180, "seconds", 0..=3600, "How much longer its leases may take: those of dead pods must run out first.")
        .number("restore-wait", 300, "seconds", 0..=7200, "How long restores go first, before backups return.")
        .number("resume-at-once", 3, "owners", 1..=64, "Owners resumed at once.")
        .number("resume-wait", 120, "seconds", 1..=3600, "How long to wait for the sources of one group of owners and their first synchronization.")
        .number("settle", 120, "seconds", 0..=3600, "How long the end must hold before it is called fixed.")
        .number("recovery", 600, "seconds", 0..=7200, "How long claims may take to be bound.")
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// `invalid`, naming the key.
    pub fn read(text: &str) -> Result<Self, Error> {
        let values = schema().read(text)?;
        let seconds = |key| values.number(key) * 1_000;
        let small = |key| u32::try_from(values.number(key)).expect("the schema's ranges fit");
        let source = match values.text("source") {
            "" => None,
            text => Some(ObjectRef::parse(text).ok_or_else(|| {
                Error::Invalid(format!(
                    "configuration: `source` is {text:?}; expected is namespace/name, or nothing"
                ))
            })?),
        };
        let driver = match values.text("storage-class") {
            "" => Selector::Name(values.text("driver").to_owned()),
            class => Selector::StorageClass(class.to_owned()),
        };
        Ok(Self {
            namespaces: values.texts("namespaces"),
            source,
            driver,
            driver_namespace: values.text("driver-namespace").to_owned(),
            mode: if values.text("mode") == "all" { Mode::All } else { Mode::Evidence },
            evidence_waived: values.text("evidence") == "waived",
            log_window: seconds("log-window"),
            sample_gap: seconds("sample-gap"),
            complete_deletions: values.flag("complete-deletions"),
            delete_hand_made: values.flag("delete-hand-made"),
            delete_identities: values.flag("delete-identities"),
            deletions_at_once: small("deletions-at-once"),
            deletion_pause: small("deletion-pause"),
            drain_seconds: small("drain-seconds"),
            snapshot_wait: seconds("snapshot-wait"),
            rollout_wait: seconds("rollout-wait"),
            lease_wait: seconds("lease-wait"),
            restore_wait: seconds("restore-wait"),
            resume_at_once: small("resume-at-once") as usize,
            resume_wait: seconds("resume-wait"),
            settle: seconds("settle"),
            recovery: seconds("recovery"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_playbooks() {
        let config = Config::read("{}").expect("defaults fit");
        assert_eq!(config.namespaces.len(), 6);
        assert_eq!(config.source, Some(ObjectRef::new("flux-system", "flux-system")));
        assert!(
            matches!(&config.driver, Selector::Name(name) if name == "rook-ceph.rbd.csi.ceph.com")
        );
        assert_eq!(config.mode, Mode::Evidence);
        assert!(!config.evidence_waived && !config.complete_deletions);
        assert_eq!(config.settle, 120_000);
    }

    #[test]
    fn a_storage_class_wins_over_the_driver() {
        let config =
            Config::read(r#"{"storage-class": "ceph-block", "source": ""}"#).expect("fits");
        assert!(matches!(&config.driver, Selector::StorageClass(name) if name == "ceph-block"));
        assert_eq!(config.source, None);
    }

    #[test]
    fn a_source_without_a_namespace_is_refused() {
        let error = Config::read(r#"{"source": "flux-system"}"#).expect_err("no namespace");
        assert!(error.message().contains("`source`"), "{}", error.message());
    }
}
