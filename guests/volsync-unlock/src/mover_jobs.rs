//! The Jobs that move the data of ReplicationSources.

use salve_sdk::ObjectRef;
use salve_sdk::format::count;
use salve_sdk::query_replicationsources::Source;
use serde_json::Value;

/// A Job of VolSync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoverJob {
    pub object: ObjectRef,
    /// Pods that run.
    pub active: u64,
    /// Pods that failed.
    pub failed: u64,
    /// Why the Job gave up, such as `BackoffLimitExceeded`.
    pub gave_up: Option<String>,
}

/// Parses a Job. `None` if it does not belong to VolSync.
pub fn parse(job: &Value) -> Option<MoverJob> {
    let (metadata, status) = (&job["metadata"], &job["status"]);
    let name = metadata["name"].as_str().filter(|name| name.starts_with("volsync-"))?;
    let failure = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Failed" && condition["status"] == "True");
    Some(MoverJob {
        object: ObjectRef::new(metadata["namespace"].as_str()?, name),
        active: status["active"].as_u64().unwrap_or(0),
        failed: status["failed"].as_u64().unwrap_or(0),
        gave_up: failure
            .map(|failure| failure["reason"].as_str().unwrap_or("no reason given").to_owned()),
    })
}

/// Returns whether `name` is that of the Job `volsync-[MOVER-]src-NAME` of this source.
pub fn is_job_of(name: &str, source: &Source) -> bool {
    name.strip_prefix("volsync-")
        .and_then(|rest| rest.strip_suffix(&source.object.name))
        .is_some_and(|mover| mover.ends_with("src-"))
}

/// Describes why the Job of a source makes no progress. `None` if a pod of it runs that never
/// failed, or if there is none.
pub fn failure(source: &Source, jobs: &[MoverJob]) -> Option<String> {
    let job = jobs.iter().find(|job| {
        job.object.namespace == source.object.namespace && is_job_of(&job.object.name, source)
    })?;
    let name = &job.object.name;
    let failed = count(usize::try_from(job.failed).unwrap_or(usize::MAX), "pod");
    match (&job.gave_up, job.failed, job.active) {
        (Some(reason), ..) => Some(format!("Job {name}: {reason}, {failed} failed")),
        (None, 0, _) => None,
        (None, _, 0) => Some(format!("Job {name}: {failed} failed, the next one is not started")),
        (None, _, _) => Some(format!("Job {name}: {failed} failed, another one is running")),
    }
}

#[cfg(test)]
#[path = "tests/mover_jobs.rs"]
mod tests;
