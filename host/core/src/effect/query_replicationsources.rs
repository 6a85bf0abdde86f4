//! `query-replicationsources`: which backups run, and whether what they back up is still there.

use super::{
    Target, Validate,
    shared::{Condition, FluxRef, ObjectRef, all_of, check_namespaces},
};
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};

/// All ReplicationSources of these namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListSources {
    /// The namespaces.
    pub namespaces: Vec<String>,
}

/// All ReplicationDestinations of these namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListDestinations {
    /// The namespaces.
    pub namespaces: Vec<String>,
}

/// What became of the claim that a source backs up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PvcState {
    /// There, and bound.
    Present,
    /// There, without a volume.
    Unbound,
    /// Being deleted.
    Terminating,
    /// Gone.
    Missing,
    /// The source names none.
    None,
}

/// How a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Fine.
    Healthy,
    /// Its claim is gone.
    Orphan,
    /// Its claim is being deleted.
    TerminatingSource,
    /// Its claim waits for a volume.
    UnboundSource,
    /// Synchronizing for far longer than it ever took.
    Stuck,
    /// Driven by something outside VolSync.
    External,
}

/// A ReplicationSource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its names.
    pub object: ObjectRef,
    /// Its uid.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: u64,
    /// [`crate::digest::of_json`] of its `spec`.
    pub digest: String,
    /// When it was made.
    pub created: Millis,
    /// `spec.sourcePVC`.
    pub pvc: Option<String>,
    /// What became of it.
    pub pvc_state: PvcState,
    /// How the source is.
    pub health: Health,
    /// The key of its spec that names the mover.
    pub mover: String,
    /// Deleting it destroys keys that peers know.
    pub has_identity: bool,
    /// `spec.trigger.schedule`.
    pub schedule: Option<String>,
    /// `spec.paused`.
    pub paused: bool,
    /// `status.lastSyncStartTime`.
    pub syncing_since: Option<Millis>,
    /// `status.lastSyncTime`.
    pub last_sync: Option<Millis>,
    /// `status.latestMoverStatus.result`.
    pub last_result: Option<String>,
    /// Condition Synchronizing.
    pub condition: Option<Condition>,
    /// What its labels say.
    pub labelled_owner: Option<FluxRef>,
}

/// A ReplicationDestination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// Its names.
    pub object: ObjectRef,
    /// Its uid.
    pub uid: String,
    /// `spec.trigger.manual`.
    pub trigger: Option<String>,
    /// The trigger was handled.
    pub done: bool,
    /// `status.lastSyncStartTime`.
    pub syncing_since: Option<Millis>,
    /// `status.lastSyncTime`.
    pub last_sync: Option<Millis>,
    /// `status.latestImage.name`.
    pub latest_image: Option<String>,
    /// Condition Synchronizing.
    pub condition: Option<Condition>,
}

impl Validate for ListSources {
    fn targets(&self) -> Vec<Target> {
        all_of(&self.namespaces)
    }
    fn check(&self) -> Result<(), Error> {
        check_namespaces(&self.namespaces)
    }
}
impl Validate for ListDestinations {
    fn targets(&self) -> Vec<Target> {
        all_of(&self.namespaces)
    }
    fn check(&self) -> Result<(), Error> {
        check_namespaces(&self.namespaces)
    }
}
