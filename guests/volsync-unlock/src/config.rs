//! The configuration of this guest: every key with its default, unit, and description.

use salve_sdk::query_drivers::Selector;
use salve_sdk::{Error, ObjectRef, Schema};

/// Which ReplicationSources to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only those that the evidence implicates.
    Evidence,
    /// All in the configured namespaces, as in the manual playbook.
    All,
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names and globs.
    pub namespaces: Vec<String>,
    /// The Flux source to suspend together with the owners.
    pub flux_source: Option<ObjectRef>,
    pub driver: Selector,
    pub driver_namespace: String,
    pub mode: Mode,
    /// Whether to act without evidence.
    pub evidence_waived: bool,
    pub log_window_ms: u64,
    pub sample_interval_ms: u64,
    pub complete_pvc_deletions: bool,
    pub delete_unmanaged: bool,
    pub delete_foreign: bool,
    pub delete_identities: bool,
    pub deletion_batch_size: u32,
    pub deletion_interval_ms: u32,
    pub drain_timeout_seconds: u32,
    pub snapshot_timeout_ms: u64,
    pub rollout_timeout_ms: u64,
    /// In addition to the rollout timeout.
    pub lease_timeout_ms: u64,
    pub restore_timeout_ms: u64,
    pub resume_batch_size: usize,
    pub resume_timeout_ms: u64,
    pub stabilization_window_ms: u64,
    pub recovery_timeout_ms: u64,
}

/// Returns the schema of the configuration.
pub fn schema() -> Schema {
    let schema = Schema::new()
        .texts(
            "namespaces",
            &["ai", "home-automation", "media", "observability", "security", "selfhosted"],
            "Namespaces to search for ReplicationSources and PVCs: names, or globs with * and ?.",
        )
        .text(
            "fluxSource",
            "flux-system/flux-system",
            "The Flux source (namespace/name) to suspend together with the owners of the deleted \
             ReplicationSources; empty for none.",
        )
        .text(
            "driver",
            "rook-ceph.rbd.csi.ceph.com",
            "The CSI driver whose controller holds the locks.",
        )
        .text(
            "storageClass",
            "",
            "Use the driver of this StorageClass instead; empty to use `driver`.",
        )
        .text("driverNamespace", "rook-ceph", "The namespace of the driver's controller.")
        .choice(
            "mode",
            &["evidence", "all"],
            "Delete only the ReplicationSources implicated by the evidence, or all in the \
             configured namespaces.",
        )
        .choice(
            "evidence",
            &["required", "waived"],
            "Whether locks must be observed before anything is changed.",
        )
        .number(
            "logWindowSeconds",
            3600,
            "seconds",
            60..=86_400,
            "How far back to read the controller's log.",
        )
        .number(
            "sampleIntervalSeconds",
            180,
            "seconds",
            0..=3600,
            "How long a lock must persist to count as evidence if no Pending PVC is known to wait \
             for it.",
        )
        .flag(
            "completePvcDeletions",
            "Consent: PVCs that are being deleted lose their data once the locks are cleared, if \
             their reclaim policy is Delete.",
        )
        .flag(
            "deleteUnmanaged",
            "Consent: also delete ReplicationSources that nothing recreates: not in Git, abandoned \
             by their owner although their PVC exists, or with an owner that a user suspended.",
        )
        .flag(
            "deleteForeign",
            "Consent: also delete ReplicationSources whose owner Salve cannot suspend, because it \
             is not in this cluster, is not Flux, or could not be checked: it may recreate them at \
             any time.",
        )
        .flag(
            "deleteIdentities",
            "Consent: delete ReplicationSources whose keys or identity are known to peers (rsync, \
             rsync-TLS, Syncthing).",
        );
    pacing_and_timeouts(schema)
}

fn pacing_and_timeouts(schema: Schema) -> Schema {
    schema
        .number(
            "deletionBatchSize",
            5,
            "ReplicationSources",
            1..=64,
            "How many ReplicationSources to delete at the same time.",
        )
        .number(
            "deletionIntervalMs",
            1000,
            "milliseconds",
            0..=60_000,
            "Pause between two batches of deletions.",
        )
        .number(
            "drainTimeoutSeconds",
            300,
            "seconds",
            1..=3600,
            "How long to wait for reconciliations in progress to finish after a suspend.",
        )
        .number(
            "snapshotTimeoutSeconds",
            120,
            "seconds",
            0..=3600,
            "How long to wait until the snapshots of deleted ReplicationSources are gone.",
        )
        .number(
            "rolloutTimeoutSeconds",
            300,
            "seconds",
            10..=3600,
            "How long to wait for the new pods of the controller.",
        )
        .number(
            "leaseTimeoutSeconds",
            180,
            "seconds",
            0..=3600,
            "How much longer to wait for the controller's leases: those of deleted pods must \
             expire first.",
        )
        .number(
            "restoreTimeoutSeconds",
            300,
            "seconds",
            0..=7200,
            "How long to wait for restores before backups resume.",
        )
        .number(
            "resumeBatchSize",
            3,
            "owners",
            1..=64,
            "How many owners to resume at the same time.",
        )
        .number(
            "resumeTimeoutSeconds",
            120,
            "seconds",
            1..=3600,
            "How long to wait for the ReplicationSources of one batch of owners and their first \
             sync.",
        )
        .number(
            "stabilizationWindowSeconds",
            120,
            "seconds",
            0..=3600,
            "How long the cluster must stay free of locks before the incident counts as fixed.",
        )
        .number(
            "recoveryTimeoutSeconds",
            600,
            "seconds",
            0..=7200,
            "How long to wait for PVCs to be bound.",
        )
}

impl Config {
    /// Parses a configuration.
    ///
    /// # Errors
    /// `invalid`, naming the key.
    pub fn read(text: &str) -> Result<Self, Error> {
        let values = schema().read(text)?;
        let milliseconds = |key| values.number(key) * 1_000;
        let number = |key| u32::try_from(values.number(key)).expect("the schema's ranges fit");
        let flux_source = match values.text("fluxSource") {
            "" => None,
            text => Some(ObjectRef::parse(text).ok_or_else(|| {
                Error::Invalid(format!(
                    "configuration: `fluxSource` is {text:?}; expected namespace/name or an empty \
                     string"
                ))
            })?),
        };
        let driver = match values.text("storageClass") {
            "" => Selector::Name(values.text("driver").to_owned()),
            class => Selector::StorageClass(class.to_owned()),
        };
        Ok(Self {
            namespaces: values.texts("namespaces"),
            flux_source,
            driver,
            driver_namespace: values.text("driverNamespace").to_owned(),
            mode: if values.text("mode") == "all" { Mode::All } else { Mode::Evidence },
            evidence_waived: values.text("evidence") == "waived",
            log_window_ms: milliseconds("logWindowSeconds"),
            sample_interval_ms: milliseconds("sampleIntervalSeconds"),
            complete_pvc_deletions: values.flag("completePvcDeletions"),
            delete_unmanaged: values.flag("deleteUnmanaged"),
            delete_foreign: values.flag("deleteForeign"),
            delete_identities: values.flag("deleteIdentities"),
            deletion_batch_size: number("deletionBatchSize"),
            deletion_interval_ms: number("deletionIntervalMs"),
            drain_timeout_seconds: number("drainTimeoutSeconds"),
            snapshot_timeout_ms: milliseconds("snapshotTimeoutSeconds"),
            rollout_timeout_ms: milliseconds("rolloutTimeoutSeconds"),
            lease_timeout_ms: milliseconds("leaseTimeoutSeconds"),
            restore_timeout_ms: milliseconds("restoreTimeoutSeconds"),
            resume_batch_size: number("resumeBatchSize") as usize,
            resume_timeout_ms: milliseconds("resumeTimeoutSeconds"),
            stabilization_window_ms: milliseconds("stabilizationWindowSeconds"),
            recovery_timeout_ms: milliseconds("recoveryTimeoutSeconds"),
        })
    }
}

#[cfg(test)]
#[path = "tests/config.rs"]
mod tests;
