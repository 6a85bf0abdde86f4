//! Replaces the pods of a Deployment one after the other, without giving up more ready pods than
//! it must: the next pod is deleted once the replacements of the earlier ones are ready.

use crate::capability::query_drivers::replicas;
use crate::failure::FailureKind;
use crate::object::{is_condition_true, is_terminating, name, namespace, number, uid};
use crate::pod;
use crate::resource::PODS;
use crate::send::Session;
use crate::time;
use salve_core::Millis;
use salve_core::outcome::Error;
use serde_json::Value;

/// Timeout for a pod's replacement if the Deployment has no `progressDeadlineSeconds`.
const PROGRESS_SECONDS: u64 = 600;
/// Maximum number of attempts to delete a pod.
const MAX_ATTEMPTS: u32 = 3;

/// Deletes `pods` by uid, waiting after each until enough of the new pods are ready. They are as
/// they were when the restart began, at `at`.
///
/// # Errors
/// `unavailable` if a pod cannot be deleted, if no replacement becomes ready, or if the user asks
/// to stop: the pods that were not deleted then go on running.
pub(super) async fn replace_pods(
    session: &Session,
    deployment: &Value,
    pods: &[Value],
    at: Millis,
) -> Result<(), Error> {
    let clock = session.clock();
    let timeout =
        number(deployment, "/spec/progressDeadlineSeconds").unwrap_or(PROGRESS_SECONDS) * 1000;
    for (index, pod) in pods.iter().enumerate() {
        delete_pod(session, pod).await.map_err(|error| {
            Error::Unavailable(format!(
                "{}; {} of {} pods were replaced",
                error.text(),
                index,
                pods.len()
            ))
        })?;
        let (deleted, remaining) = pods.split_at(index + 1);
        if remaining.is_empty() {
            // `await-rollout` waits for the last replacement.
            return Ok(());
        }
        let begin = clock.now().max(at);
        loop {
            // mutant replacement-ignores-stop: session.stop_requested() ~> false
            if session.stop_requested() {
                return Err(Error::Unavailable(format!(
                    "stopped: {} of {} pods were deleted; {} still running: {}",
                    deleted.len(),
                    pods.len(),
                    if remaining.len() == 1 { "one is" } else { "others are" },
                    names(remaining)
                )));
            }
            let now = pod::of_deployment(session, deployment).await?;
            let waited = clock.now().saturating_sub(begin);
            let progress = Progress::new(&now, pods, deleted, replicas(deployment));
            if progress.may_continue(waited) {
                break;
            }
            if waited >= timeout {
                return Err(Error::Unavailable(format!(
                    "no replacement of pod {} became ready within {}: {}; the old pods {} were \
                     left running",
                    name(pod),
                    time::human_duration(timeout),
                    progress.describe(clock.now()),
                    names(remaining)
                )));
            }
            session.sleep(super::POLL_INTERVAL).await;
        }
    }
    Ok(())
}

fn names(pods: &[Value]) -> String {
    pods.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// How far the pods that were deleted have been replaced.
struct Progress<'a> {
    /// Pods that exist only since the restart, or that did not run before.
    new: Vec<&'a Value>,
    ready: usize,
    /// Number of pods that must be replaced by now.
    deleted: usize,
    /// How many of them were ready.
    wanted: usize,
}

impl<'a> Progress<'a> {
    fn new(now: &'a [Value], old: &[Value], deleted: &[Value], replicas: u32) -> Self {
        let new: Vec<&Value> = now
            .iter()
            .filter(|pod| !is_terminating(pod) && !pod::is_finished(pod))
            .filter(|pod| old.iter().all(|old| uid(old) != uid(pod)))
            .collect();
        let max = replicas as usize;
        Self {
            ready: new.iter().filter(|pod| is_condition_true(pod, "Ready", None)).count(),
            new,
            deleted: deleted.len().min(max),
            wanted: deleted.iter().filter(|pod| super::was_ready(pod)).count().min(max),
        }
    }

    /// Returns true if the next pod may be deleted. `waited` is in milliseconds.
    ///
    /// The deleted pods need not be gone: one on a dead node stays forever. A replacement of a pod
    /// that was not ready need not be ready either, but gets some time. So does one that cannot be
    /// scheduled: with anti-affinity, only the deletion of the next pod makes room for it.
    fn may_continue(&self, waited: Millis) -> bool {
        let mut unready = self.new.iter().filter(|pod| !is_condition_true(pod, "Ready", None));
        let is_stuck = self.new.len() > self.ready && unready.all(|pod| pod::is_unscheduled(pod));
        self.ready >= self.deleted
            || waited >= super::START_TIMEOUT && (self.ready >= self.wanted || is_stuck)
    }

    fn describe(&self, now: Millis) -> String {
        if self.new.is_empty() {
            return "there is no new pod".into();
        }
        self.new.iter().map(|pod| pod::describe(pod, now)).collect::<Vec<_>>().join(", ")
    }
}

/// Deletes one pod, if it still exists.
async fn delete_pod(session: &Session, pod: &Value) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        let failure = match session.delete(&PODS, namespace(pod), name(pod), uid(pod), None).await {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        match &failure.kind {
            FailureKind::Absent(_) => return Ok(()),
            // Another pod has its name now.
            FailureKind::Rejected(rejection) if rejection.code == 409 => return Ok(()),
            FailureKind::InDoubt(_) => {}
            FailureKind::Rejected(_)
            | FailureKind::NotSent(_)
            | FailureKind::Credentials(_)
            | FailureKind::Blocked(_) => {
                return Err(failure.into());
            }
        }
        let now = session.find(&PODS, Some(namespace(pod)), name(pod)).await?;
        if now.is_none_or(|now| uid(&now) != uid(pod) || is_terminating(&now)) {
            return Ok(());
        }
        // The request has a uid precondition, so it is harmless if it still arrives.
        if attempt == MAX_ATTEMPTS {
            return Err(failure.into());
        }
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, ready: bool) -> Value {
        json!({"metadata": {"uid": uid}, "spec": {"nodeName": "n"},
            "status": {"phase": "Running",
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
    }

    fn terminating(uid: &str) -> Value {
        let mut pod = pod(uid, true);
        pod["metadata"]["deletionTimestamp"] = "2026-08-20T10:00:00Z".into();
        pod
    }

    fn with_phase(uid: &str, phase: &str) -> Value {
        json!({"metadata": {"uid": uid}, "status": {"phase": phase}})
    }

    #[test]
    fn the_next_pod_is_deleted_once_new_pods_stand_in_for_the_deleted_ones() {
        let (ready, unready) =
            ([pod("a", true), pod("b", true)], [pod("a", false), pod("b", true)]);
        let (soon, later) = (0, super::super::START_TIMEOUT);
        for (case, old, now, at_once, after_a_while) in [
            ("a replacement is ready", &ready, vec![pod("b", true), pod("c", true)], true, true),
            ("it is not ready", &ready, vec![pod("b", true), pod("c", false)], false, false),
            ("there is none", &ready, vec![pod("b", true)], false, false),
            (
                "the deleted pod stays on its dead node",
                &ready,
                vec![terminating("a"), pod("b", true), pod("c", true)],
                true,
                true,
            ),
            (
                "a terminating pod is not a replacement",
                &ready,
                vec![pod("b", true), terminating("x")],
                false,
                false,
            ),
            (
                "nor is a finished one",
                &ready,
                vec![pod("b", true), with_phase("x", "Failed")],
                false,
                false,
            ),
            (
                "its replacement waits for room",
                &ready,
                vec![pod("b", true), with_phase("c", "Pending")],
                false,
                true,
            ),
            (
                "one of two waits for room, the other starts",
                &ready,
                vec![pod("b", true), with_phase("c", "Pending"), pod("d", false)],
                false,
                false,
            ),
            (
                "it was not ready before",
                &unready,
                vec![pod("b", true), pod("c", false)],
                false,
                true,
            ),
        ] {
            let progress = Progress::new(&now, old, &old[..1], 2);
            assert_eq!(progress.may_continue(soon), at_once, "{case}");
            assert_eq!(progress.may_continue(later), after_a_while, "{case}");
        }
        let surge = [pod("a", true), pod("b", true), pod("c", true)];
        let now = [pod("c", true), pod("d", true)];
        assert!(Progress::new(&now, &surge, &surge[..2], 1).may_continue(soon), "one is enough");
    }
}
