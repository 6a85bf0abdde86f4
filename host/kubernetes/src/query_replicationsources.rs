//! `query-replicationsources`: which backups run, and whether what they back up is still there.

use crate::discovery::{self, VOLSYNC};
use crate::flux;
use crate::object::{
    condition, created, holds, instant, is_terminating, is_true, name, namespace, number, owned,
    text, uid,
};
use crate::resource::CLAIMS;
use crate::send::{Narrow, Session, concurrently};
use crate::time::go_duration;
use salve_core::Millis;
use salve_core::digest;
use salve_core::effect::query_replicationsources::{
    Destination, Health, ListDestinations, ListSources, PvcState, Source,
};
use salve_core::effect::shared::ObjectRef;
use salve_core::outcome::Error;
use serde_json::Value;
use std::collections::HashMap;

/// How many requests are under way at once.
const AT_ONCE: usize = 16;
/// A sync of less than this is never called wedged.
const WEDGED: Millis = 60 * 60 * 1000;

/// All ReplicationSources of the namespaces, by namespace and name.
pub(crate) async fn sources(session: &Session, ask: &ListSources) -> Result<Vec<Source>, Error> {
    let resource = discovery::served(session, VOLSYNC, "replicationsources").await?;
    let found = concurrently(
        ask.namespaces
            .iter()
            .map(|ns| session.list(&resource, Some(ns), Narrow::default()))
            .collect(),
        AT_ONCE,
    )
    .await;
    // After the sources, never beside them: a claim that was made together with its source must not be missed.
    let pvcs = concurrently(
        ask.namespaces
            .iter()
            .map(|ns| session.list(&CLAIMS, Some(ns), Narrow::default()))
            .collect(),
        AT_ONCE,
    )
    .await;
    let now = session.clock().now();
    let mut all = Vec::new();
    for (found, pvcs) in found.into_iter().zip(pvcs) {
        let pvcs = pvcs?;
        let pvcs: HashMap<&str, &Value> = pvcs.iter().map(|pvc| (name(pvc), pvc)).collect();
        all.extend(found?.iter().map(|source| read(source, &pvcs, now)));
    }
    all.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(all)
}

/// All ReplicationDestinations of the namespaces, by namespace and name.
pub(crate) async fn destinations(
    session: &Session,
    ask: &ListDestinations,
) -> Result<Vec<Destination>, Error> {
    let resource = discovery::served(session, VOLSYNC, "replicationdestinations").await?;
    let found = concurrently(
        ask.namespaces
            .iter()
            .map(|ns| session.list(&resource, Some(ns), Narrow::default()))
            .collect(),
        AT_ONCE,
    )
    .await;
    let mut all = Vec::new();
    for found in found {
        all.extend(found?.iter().map(read_destination));
    }
    all.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(all)
}

/// What a deletion is bound to, beside the uid.
pub(crate) fn spec_digest(source: &Value) -> String {
    digest::of_json(source.get("spec").unwrap_or(&Value::Null))
}

fn read(source: &Value, pvcs: &HashMap<&str, &Value>, now: Millis) -> Source {
    let mover = mover(source);
    let pvc = owned(source, "/spec/sourcePVC");
    let pvc_state = match &pvc {
        None => PvcState::None,
        Some(pvc) => pvcs.get(pvc.as_str()).map_or(PvcState::Missing, |pvc| state(pvc)),
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
        // Keys that peers know, or an identity of its own: not to be had from Git again.
        has_identity: matches!(mover.as_str(), "rsync" | "rsyncTLS" | "syncthing"),
        mover,
        schedule: owned(source, "/spec/trigger/schedule"),
        paused: is_true(source, "/spec/paused"),
        syncing_since: instant(source, "/status/lastSyncStartTime"),
        last_sync: instant(source, "/status/lastSyncTime"),
        last_result: owned(source, "/status/latestMoverStatus/result"),
        condition: condition(source, "Synchronizing"),
        labelled_owner: flux::labelled_owner(source),
    }
}

/// The mover that its spec names: one that we know, else the first section that is neither trigger nor claim.
fn mover(source: &Value) -> String {
    let Some(spec) = source.get("spec").and_then(Value::as_object) else { return "none".into() };
    let known = ["restic", "kopia", "rclone", "rsync", "rsyncTLS", "syncthing", "external"];
    let named =
        known.into_iter().find(|key| spec.get(*key).is_some_and(|section| !section.is_null()));
    let other = || {
        spec.iter()
            .find(|(key, section)| section.is_object() && key.as_str() != "trigger")
            .map(|(key, _)| key.as_str())
    };
    named.or_else(other).unwrap_or("none").to_owned()
}

fn state(pvc: &Value) -> PvcState {
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
        // An idle orphan looks healthy until its next schedule: so its claim is asked, not its condition.
        PvcState::Missing => Health::Orphan,
        PvcState::Terminating => Health::TerminatingSource,
        PvcState::Unbound => Health::UnboundSource,
        PvcState::Present | PvcState::None if is_wedged(source, now) => Health::Stuck,
        PvcState::Present | PvcState::None => Health::Healthy,
    }
}

/// Synchronizing for longer than three times as long as the last time, and than an hour.
fn is_wedged(source: &Value, now: Millis) -> bool {
    let usual = text(source, "/status/lastSyncDuration")
        .and_then(go_duration)
        .map_or(0, |last| last.as_millis() as Millis);
    holds(source, "Synchronizing", Some("SyncInProgress"))
        && instant(source, "/status/lastSyncStartTime")
            .is_some_and(|since| now.saturating_sub(since) > usual.saturating_mul(3).max(WEDGED))
}

fn read_destination(destination: &Value) -> Destination {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-08-20T10:00:00Z";

    fn judged(spec: Value, status: Value, pvc: Option<Value>) -> Source {
        let source = json!({"metadata": {"name": "plex", "namespace": "media", "uid": "u"}, "spec": spec, "status": status});
        let pvcs = pvc.iter().map(|pvc| ("plex", pvc)).collect();
        read(&source, &pvcs, crate::time::millis(NOW).unwrap())
    }

    fn restic() -> Value {
        json!({"sourcePVC": "plex", "trigger": {"schedule": "0 * * * *"}, "restic": {"copyMethod": "Snapshot"}})
    }

    fn bound() -> Option<Value> {
        Some(json!({"status": {"phase": "Bound"}}))
    }

    fn syncing(since: &str, last: &str) -> Value {
        json!({"conditions": [{"type": "Synchronizing", "status": "True", "reason": "SyncInProgress"}], "lastSyncStartTime": since, "lastSyncDuration": last})
    }

    #[test]
    fn the_claim_decides_and_not_the_condition() {
        let idle = json!({"conditions": [{"type": "Synchronizing", "status": "False", "reason": "WaitingForSchedule"}], "lastSyncTime": "2026-08-20T09:02:30Z"});
        let seen = |pvc| judged(restic(), idle.clone(), pvc);
        assert_eq!(
            (seen(bound()).health, seen(bound()).pvc_state),
            (Health::Healthy, PvcState::Present)
        );
        assert_eq!((seen(None).health, seen(None).pvc_state), (Health::Orphan, PvcState::Missing));
        let going =
            Some(json!({"metadata": {"deletionTimestamp": NOW}, "status": {"phase": "Bound"}}));
        assert_eq!(
            (seen(going.clone()).health, seen(going).pvc_state),
            (Health::TerminatingSource, PvcState::Terminating)
        );
        let waiting = Some(json!({"status": {"phase": "Pending"}}));
        assert_eq!(
            (seen(waiting.clone()).health, seen(waiting).pvc_state),
            (Health::UnboundSource, PvcState::Unbound)
        );
    }

    #[test]
    fn a_sync_is_wedged_when_it_is_far_longer_than_ever() {
        for (since, last, health) in [
            ("2026-08-20T09:10:00Z", "2m30.1s", Health::Healthy),
            ("2026-08-20T08:50:00Z", "2m30.1s", Health::Stuck),
            ("2026-08-20T08:50:00Z", "30m0s", Health::Healthy),
            ("2026-08-20T08:20:00Z", "30m0s", Health::Stuck),
            ("2026-08-20T08:50:00Z", "", Health::Stuck),
        ] {
            assert_eq!(
                judged(restic(), syncing(since, last), bound()).health,
                health,
                "{since} {last}"
            );
        }
    }

    #[test]
    fn a_source_that_was_just_made_has_no_status() {
        let fresh = judged(restic(), Value::Null, bound());
        assert_eq!(
            (fresh.health, fresh.condition, fresh.syncing_since),
            (Health::Healthy, None, None)
        );
    }

    #[test]
    fn movers_are_known_by_the_key_of_their_spec() {
        for (spec, mover, bears) in [
            (json!({"external": {"provider": "x"}}), "external", false),
            (json!({"sourcePVC": "plex", "kopia": {}}), "kopia", false),
            (json!({"sourcePVC": "plex", "rsyncTLS": {}}), "rsyncTLS", true),
            (json!({"sourcePVC": "plex", "syncthing": {}}), "syncthing", true),
            (json!({"sourcePVC": "plex", "trigger": {"manual": "x"}, "novel": {}}), "novel", false),
            (json!({"sourcePVC": "plex"}), "none", false),
        ] {
            let seen = judged(spec, Value::Null, bound());
            assert_eq!((seen.mover.as_str(), seen.has_identity), (mover, bears));
        }
        assert_eq!(judged(json!({"external": {}}), Value::Null, None).health, Health::External);
    }

    #[test]
    fn the_digest_is_of_the_spec_alone() {
        let once = judged(restic(), Value::Null, None).digest;
        assert_eq!(once, judged(restic(), syncing(NOW, "1s"), bound()).digest);
        assert_ne!(once, judged(json!({"sourcePVC": "other"}), Value::Null, None).digest);
    }

    #[test]
    fn a_destination_is_done_when_its_trigger_was_handled() {
        let done = |trigger, handled| {
            read_destination(&json!({"spec": {"trigger": {"manual": trigger}}, "status": {"lastManualSync": handled}})).done
        };
        assert!(done(json!("restore-once"), json!("restore-once")));
        assert!(!done(json!("restore-once"), Value::Null));
        assert!(!done(Value::Null, Value::Null));
    }
}
