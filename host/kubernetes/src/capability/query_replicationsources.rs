//! `query-replicationsources`: backups with their state, and whether their PVCs still exist.

use crate::discovery;
use crate::flux;
use crate::object::{
    condition, created, instant, is_condition_true, is_terminating, is_true, name, namespace,
    number, owned, text, uid,
};
use crate::perform::PerformRead;
use crate::resource::PVCS;
use crate::send::{ListFilter, MAX_CONCURRENT_REQUESTS, Session, concurrently};
use crate::time::go_duration;
use salve_core::Millis;
use salve_core::capability::query_replicationsources::{
    Destination, Health, ListDestinations, ListSources, PvcState, Source,
};
use salve_core::capability::types::{ObjectRef, VOLSYNC};
use salve_core::digest;
use salve_core::grants::{MOVERS, mover_of_section};
use salve_core::outcome::Error;
use serde_json::Value;
use std::collections::HashMap;

/// The minimum duration of a sync that is considered stuck.
const MIN_STUCK_MS: Millis = 60 * 60 * 1000;

/// VolSync itself saves about as much of a log.
const MAX_LOG_BYTES: usize = 1024;

/// Lists all ReplicationSources of the namespaces, sorted by namespace and name.
async fn sources(session: &Session, call: &ListSources) -> Result<Vec<Source>, Error> {
    let resource = discovery::require_resource(session, VOLSYNC, "replicationsources").await?;
    let found = concurrently(
        call.namespaces
            .iter()
            .map(|ns| session.list(&resource, Some(ns), ListFilter::default()))
            .collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    // Only after the sources, so that a PVC created together with its source is not missed.
    let pvcs = concurrently(
        call.namespaces
            .iter()
            .map(|ns| session.list(&PVCS, Some(ns), ListFilter::default()))
            .collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    let now = session.clock().now();
    let mut all = Vec::new();
    for (found, pvcs) in found.into_iter().zip(pvcs) {
        let pvcs = pvcs?;
        let pvcs: HashMap<&str, &Value> = pvcs.iter().map(|pvc| (name(pvc), pvc)).collect();
        all.extend(found?.iter().map(|source| parse_source(source, &pvcs, now)));
    }
    all.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(all)
}

/// Lists all ReplicationDestinations of the namespaces, sorted by namespace and name.
async fn destinations(
    session: &Session,
    call: &ListDestinations,
) -> Result<Vec<Destination>, Error> {
    let resource = discovery::require_resource(session, VOLSYNC, "replicationdestinations").await?;
    let found = concurrently(
        call.namespaces
            .iter()
            .map(|ns| session.list(&resource, Some(ns), ListFilter::default()))
            .collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    let mut all = Vec::new();
    for found in found {
        all.extend(found?.iter().map(parse_destination));
    }
    all.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(all)
}

/// Returns the digest of `spec`, which a deletion requires to be unchanged.
pub(crate) fn spec_digest(source: &Value) -> String {
    digest::of_json(source.get("spec").unwrap_or(&Value::Null))
}

fn parse_source(source: &Value, pvcs: &HashMap<&str, &Value>, now: Millis) -> Source {
    let mover = mover(source);
    let pvc = owned(source, "/spec/sourcePVC");
    let pvc_state = match &pvc {
        None => PvcState::None,
        Some(pvc) => pvcs.get(pvc.as_str()).map_or(PvcState::Missing, |pvc| pvc_state(pvc)),
    };
    Source {
        object: ObjectRef::new(namespace(source), name(source)),
        uid: uid(source).to_owned(),
        generation: number(source, "/metadata/generation").unwrap_or_default(),
        digest: spec_digest(source),
        created: created(source),
        pvc,
        pvc_state,
        health: health(source, &mover, pvc_state, now),
        // Keys known to peers, or a device identity, cannot be restored from Git.
        has_identity: matches!(mover_of_section(&mover), Some("rsync" | "rsync-tls" | "syncthing")),
        schedule: owned(source, "/spec/trigger/schedule"),
        paused: is_true(source, "/spec/paused"),
        syncing_since: instant(source, "/status/lastSyncStartTime"),
        last_sync: instant(source, "/status/lastSyncTime"),
        last_result: owned(source, "/status/latestMoverStatus/result"),
        last_log: text(source, "/status/latestMoverStatus/logs").and_then(log_end),
        copy_method: source.get("spec").and_then(|spec| owned(spec.get(&mover)?, "/copyMethod")),
        condition: condition(source, "Synchronizing"),
        labelled_owner: flux::labelled_owner(source),
        mover,
    }
}

/// Returns the last [`MAX_LOG_BYTES`] of a log. None if it is empty.
fn log_end(log: &str) -> Option<String> {
    let log = log.trim();
    let start = log.len().saturating_sub(MAX_LOG_BYTES);
    let start = (start..=log.len()).find(|at| log.is_char_boundary(*at))?;
    Some(log[start..].to_owned()).filter(|log| !log.is_empty())
}

/// Returns the section of the mover in the spec: of a known one, else the first other than
/// `trigger`.
fn mover(source: &Value) -> String {
    let Some(spec) = source.get("spec").and_then(Value::as_object) else { return "none".into() };
    let known = MOVERS.into_iter().find_map(|mover| {
        spec.iter()
            .find(|(key, section)| !section.is_null() && mover_of_section(key) == Some(mover))
    });
    let other =
        || spec.iter().find(|(key, section)| section.is_object() && key.as_str() != "trigger");
    known.or_else(other).map_or("none", |(key, _)| key).to_owned()
}

fn pvc_state(pvc: &Value) -> PvcState {
    if is_terminating(pvc) {
        PvcState::Terminating
    } else if text(pvc, "/status/phase") == Some("Bound") {
        PvcState::Present
    } else {
        PvcState::Unbound
    }
}

fn health(source: &Value, mover: &str, pvc: PvcState, now: Millis) -> Health {
    if mover == "external" {
        return Health::External;
    }
    match pvc {
        // The condition of an idle orphan is healthy until its next schedule, so the PVC decides.
        PvcState::Missing => Health::Orphan,
        PvcState::Terminating => Health::TerminatingSource,
        PvcState::Unbound => Health::UnboundSource,
        PvcState::Present | PvcState::None if is_stuck(source, now) => Health::Stuck,
        PvcState::Present | PvcState::None => Health::Healthy,
    }
}

/// Returns true if a sync has been running for more than three times its last duration, and more
/// than an hour.
fn is_stuck(source: &Value, now: Millis) -> bool {
    let usual = text(source, "/status/lastSyncDuration")
        .and_then(go_duration)
        .map_or(0, |last| last.as_millis() as Millis);
    is_condition_true(source, "Synchronizing", Some("SyncInProgress"))
        && instant(source, "/status/lastSyncStartTime").is_some_and(|since| {
            now.saturating_sub(since) > usual.saturating_mul(3).max(MIN_STUCK_MS)
        })
}

fn parse_destination(destination: &Value) -> Destination {
    let trigger = owned(destination, "/spec/trigger/manual");
    Destination {
        object: ObjectRef::new(namespace(destination), name(destination)),
        uid: uid(destination).to_owned(),
        done: trigger.is_some()
            && trigger.as_deref() == text(destination, "/status/lastManualSync"),
        trigger,
        syncing_since: instant(destination, "/status/lastSyncStartTime"),
        last_sync: instant(destination, "/status/lastSyncTime"),
        latest_image: owned(destination, "/status/latestImage/name"),
        condition: condition(destination, "Synchronizing"),
    }
}

impl PerformRead for ListSources {
    async fn read(&self, session: &Session) -> Result<Vec<Source>, Error> {
        sources(session, self).await
    }
}

impl PerformRead for ListDestinations {
    async fn read(&self, session: &Session) -> Result<Vec<Destination>, Error> {
        destinations(session, self).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-08-20T10:00:00Z";

    fn parsed(spec: Value, status: Value, pvc: Option<Value>) -> Source {
        let source = json!({"metadata": {"name": "plex", "namespace": "media", "uid": "u"},
            "spec": spec, "status": status});
        let pvcs = pvc.iter().map(|pvc| ("plex", pvc)).collect();
        parse_source(&source, &pvcs, crate::time::millis(NOW).unwrap())
    }

    fn restic() -> Value {
        json!({"sourcePVC": "plex", "trigger": {"schedule": "0 * * * *"},
            "restic": {"copyMethod": "Snapshot"}})
    }

    fn bound() -> Option<Value> {
        Some(json!({"status": {"phase": "Bound"}}))
    }

    fn syncing(since: &str, last: &str) -> Value {
        json!({"conditions": [{"type": "Synchronizing", "status": "True",
            "reason": "SyncInProgress"}], "lastSyncStartTime": since, "lastSyncDuration": last})
    }

    #[test]
    fn the_pvc_determines_the_health_and_not_the_condition() {
        let idle = json!({"conditions": [{"type": "Synchronizing", "status": "False",
            "reason": "WaitingForSchedule"}], "lastSyncTime": "2026-08-20T09:02:30Z"});
        let seen = |pvc| parsed(restic(), idle.clone(), pvc);
        assert_eq!(
            (seen(bound()).health, seen(bound()).pvc_state),
            (Health::Healthy, PvcState::Present)
        );
        assert_eq!((seen(None).health, seen(None).pvc_state), (Health::Orphan, PvcState::Missing));
        let terminating =
            Some(json!({"metadata": {"deletionTimestamp": NOW}, "status": {"phase": "Bound"}}));
        assert_eq!(
            (seen(terminating.clone()).health, seen(terminating).pvc_state),
            (Health::TerminatingSource, PvcState::Terminating)
        );
        let waiting = Some(json!({"status": {"phase": "Pending"}}));
        assert_eq!(
            (seen(waiting.clone()).health, seen(waiting).pvc_state),
            (Health::UnboundSource, PvcState::Unbound)
        );
    }

    #[test]
    fn a_sync_is_stuck_when_it_runs_much_longer_than_the_last_one() {
        for (since, last, health) in [
            ("2026-08-20T09:10:00Z", "2m30.1s", Health::Healthy),
            ("2026-08-20T08:50:00Z", "2m30.1s", Health::Stuck),
            ("2026-08-20T08:50:00Z", "30m0s", Health::Healthy),
            ("2026-08-20T08:20:00Z", "30m0s", Health::Stuck),
            ("2026-08-20T08:50:00Z", "", Health::Stuck),
        ] {
            assert_eq!(
                parsed(restic(), syncing(since, last), bound()).health,
                health,
                "{since} {last}"
            );
        }
    }

    #[test]
    fn a_new_source_has_no_status() {
        let fresh = parsed(restic(), Value::Null, bound());
        assert_eq!(
            (fresh.health, fresh.condition, fresh.syncing_since),
            (Health::Healthy, None, None)
        );
    }

    #[test]
    fn the_mover_is_determined_by_the_section_in_the_spec() {
        for (spec, mover, has_identity) in [
            (json!({"external": {"provider": "x"}}), "external", false),
            (json!({"sourcePVC": "plex", "kopia": {}}), "kopia", false),
            (json!({"sourcePVC": "plex", "rsyncTLS": {}}), "rsyncTLS", true),
            (json!({"sourcePVC": "plex", "syncthing": {}}), "syncthing", true),
            (json!({"sourcePVC": "plex", "trigger": {"manual": "x"}, "novel": {}}), "novel", false),
            (json!({"sourcePVC": "plex"}), "none", false),
        ] {
            let seen = parsed(spec, Value::Null, bound());
            assert_eq!((seen.mover.as_str(), seen.has_identity), (mover, has_identity));
        }
        assert_eq!(parsed(json!({"external": {}}), Value::Null, None).health, Health::External);
    }

    #[test]
    fn the_end_of_the_log_of_the_latest_mover_is_returned() {
        let log = "opening repository\nunable to create lock in backend\n\n";
        let status = json!({"latestMoverStatus": {"result": "Failed", "logs": log}});
        let seen = parsed(restic(), status, bound());
        assert_eq!(
            seen.last_log.as_deref(),
            Some("opening repository\nunable to create lock in backend")
        );
        assert_eq!(log_end(&"é".repeat(1000)).map(|end| end.chars().count()), Some(512));
        assert_eq!(seen.copy_method.as_deref(), Some("Snapshot"));
        let silent = parsed(json!({"sourcePVC": "plex", "kopia": {}}), Value::Null, bound());
        assert_eq!((silent.last_log, silent.copy_method), (None, None));
    }

    #[test]
    fn the_digest_depends_only_on_the_spec() {
        let once = parsed(restic(), Value::Null, None).digest;
        assert_eq!(once, parsed(restic(), syncing(NOW, "1s"), bound()).digest);
        assert_ne!(once, parsed(json!({"sourcePVC": "other"}), Value::Null, None).digest);
    }

    #[test]
    fn a_destination_is_done_when_its_manual_trigger_was_handled() {
        let done = |trigger, handled| {
            parse_destination(&json!({"spec": {"trigger": {"manual": trigger}},
                "status": {"lastManualSync": handled}}))
            .done
        };
        assert!(done(json!("restore-once"), json!("restore-once")));
        assert!(!done(json!("restore-once"), Value::Null));
        assert!(!done(Value::Null, Value::Null));
    }
}
