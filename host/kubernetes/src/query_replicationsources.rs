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
    ClaimState, Destination, Destinations, Health, Source, Sources,
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
pub(crate) async fn sources(session: &Session, ask: &Sources) -> Result<Vec<Source>, Error> {
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
    let claims = concurrently(
        ask.namespaces
            .iter()
            .map(|ns| session.list(&CLAIMS, Some(ns), Narrow::default()))
            .collect(),
        AT_ONCE,
    )
    .await;
    let now = session.clock().now();
    let mut all = Vec::new();
    for (found, claims) in found.into_iter().zip(claims) {
        let claims = claims?;
        let claims: HashMap<&str, &Value> =
            claims.iter().map(|claim| (name(claim), claim)).collect();
        all.extend(found?.iter().map(|source| read(source, &claims, now)));
    }
    all.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(all)
}

/// All ReplicationDestinations of the namespaces, by namespace and name.
pub(crate) async fn destinations(
    session: &Session,
    ask: &Destinations,
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

fn read(source: &Value, claims: &HashMap<&str, &Value>, now: Millis) -> Source {
    let mover = mover(source);
    let claim = owned(source, "/spec/sourcePVC");
    let claim_state = match &claim {
        None => ClaimState::None,
        Some(claim) => claims.get(claim.as_str()).map_or(ClaimState::Missing, |claim| state(claim)),
    };
    Source {
        object: ObjectRef::new(namespace(source), name(source)),
        uid: uid(source).to_owned(),
        generation: number(source, "/metadata/generation").unwrap_or_default(),
        digest: spec_digest(source),
        created: created(source),
        claim,
        claim_state,
        health: health(source, &mover, claim_state, now),
        // Keys that peers know, or an identity of its own: not to be had from Git again.
        bears_identity: matches!(mover.as_str(), "rsync" | "rsyncTLS" | "syncthing"),
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

fn state(claim: &Value) -> ClaimState {
    if is_terminating(claim) {
        ClaimState::Terminating
    } else if text(claim, "/status/phase") == Some("Bound") {
        ClaimState::Present
    } else {
        ClaimState::Unbound
    }
}

fn health(source: &Value, mover: &str, claim: ClaimState, now: Millis) -> Health {
    if mover == "external" {
        return Health::External;
    }
    match claim {
        // An idle orphan looks healthy until its next schedule: so its claim is asked, not its condition.
        ClaimState::Missing => Health::Orphan,
        ClaimState::Terminating => Health::TerminatingSource,
        ClaimState::Unbound => Health::UnboundSource,
        ClaimState::Present | ClaimState::None if is_wedged(source, now) => Health::Wedged,
        ClaimState::Present | ClaimState::None => Health::Healthy,
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

    fn judged(spec: Value, status: Value, claim: Option<Value>) -> Source {
        let source = json!({"metadata": {"name": "plex", "namespace": "media", "uid": "u"}, "spec": spec, "status": status});
        let claims = claim.iter().map(|claim| ("plex", claim)).collect();
        read(&source, &claims, crate::time::millis(NOW).unwrap())
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
        let seen = |claim| judged(restic(), idle.clone(), claim);
        assert_eq!(
            (seen(bound()).health, seen(bound()).claim_state),
            (Health::Healthy, ClaimState::Present)
        );
        assert_eq!(
            (seen(None).health, seen(None).claim_state),
            (Health::Orphan, ClaimState::Missing)
        );
        let going =
            Some(json!({"metadata": {"deletionTimestamp": NOW}, "status": {"phase": "Bound"}}));
        assert_eq!(
            (seen(going.clone()).health, seen(going).claim_state),
            (Health::TerminatingSource, ClaimState::Terminating)
        );
        let waiting = Some(json!({"status": {"phase": "Pending"}}));
        assert_eq!(
            (seen(waiting.clone()).health, seen(waiting).claim_state),
            (Health::UnboundSource, ClaimState::Unbound)
        );
    }

    #[test]
    fn a_sync_is_wedged_when_it_is_far_longer_than_ever() {
        for (since, last, health) in [
            ("2026-08-20T09:10:00Z", "2m30.1s", Health::Healthy),
            ("2026-08-20T08:50:00Z", "2m30.1s", Health::Wedged),
            ("2026-08-20T08:50:00Z", "30m0s", Health::Healthy),
            ("2026-08-20T08:20:00Z", "30m0s", Health::Wedged),
            ("2026-08-20T08:50:00Z", "", Health::Wedged),
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
            assert_eq!((seen.mover.as_str(), seen.bears_identity), (mover, bears));
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
