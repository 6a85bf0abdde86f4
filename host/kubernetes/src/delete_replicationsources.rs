//! `delete-replicationsources`: deletes ReplicationSources of a frozen set, one by one, by uid and while they are what was chosen.

pub(crate) mod recreate;

use crate::discovery::{self, VOLSYNC};
use crate::failure::How;
use crate::object::{finalizers, is_terminating, manifest, name, namespace, uid, version};
pub(crate) use crate::query_replicationsources::spec_digest;
use crate::resource::Resource;
use crate::send::{Session, concurrently};
use salve_core::effect::delete_replicationsources::{
    Delete, Deletion, DeletionOutcome, DeletionTarget,
};
use salve_core::effect::{Answer, Write};
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{ApplyOutcome, Prepared};
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

/// How many are read at once.
const AT_ONCE: usize = 16;

/// Reads each object of the set. The prior holds the manifests of those that will be deleted, in the set's order.
pub(crate) async fn prepare(session: &Session, ask: &Delete) -> Result<Prepared, Error> {
    let resource = discovery::served(session, VOLSYNC, "replicationsources").await?;
    let found = concurrently(
        ask.set
            .iter()
            .map(|frozen| {
                session.find(&resource, Some(&frozen.object.namespace), &frozen.object.name)
            })
            .collect(),
        AT_ONCE,
    )
    .await;
    let (mut objects, mut settled) = (Vec::new(), Vec::new());
    for (frozen, found) in ask.set.iter().zip(found) {
        let found = found?;
        match judge(frozen, found.as_ref()) {
            Some(end) => settled.push(end),
            None => objects.extend(found.map(manifest)),
        }
    }
    if objects.is_empty() {
        return Ok(Prepared::AlreadyDone(Answer::Delete(settled)));
    }
    Ok(Prepared::Ready(ObservedState { objects, at: session.clock().now() }))
}

/// How it ended already for an object; none where it still is what was chosen.
fn judge(frozen: &DeletionTarget, found: Option<&Value>) -> Option<Deletion> {
    match found {
        None => Some(ended(frozen, DeletionOutcome::AlreadyGone, None)),
        // mutant delete-replaced-object: != frozen.uid ~> .is_empty()
        Some(found) if uid(found) != frozen.uid => Some(ended(
            frozen,
            DeletionOutcome::Replaced,
            Some(format!("another object bears its name, of uid {}", uid(found))),
        )),
        // mutant delete-changed-object: != frozen.digest ~> .len() != frozen.digest.len()
        Some(found) if spec_digest(found) != frozen.digest => Some(ended(
            frozen,
            DeletionOutcome::Changed,
            Some("its spec is not the one that was chosen".into()),
        )),
        Some(found) if is_terminating(found) => Some(ended(
            frozen,
            DeletionOutcome::AlreadyGone,
            Some(format!("it is being deleted, held by {}", finalizers(found).join(", "))),
        )),
        Some(_) => None,
    }
}

fn ended(frozen: &DeletionTarget, outcome: DeletionOutcome, message: Option<String>) -> Deletion {
    Deletion { object: frozen.object.clone(), uid: frozen.uid.clone(), outcome, message }
}

/// What one attempt came to for one object.
enum Attempt {
    /// It is settled.
    AlreadyDone(Deletion),
    /// It has to be read and tried again.
    Again(String),
    /// The cluster is not to be reached: what became of this one is known, or is not.
    Away(DeletionOutcome, String),
}

/// Deletes what the prior holds, in groups.
///
/// # Guarantees
/// `Conflict` splits the set in two: `completed` answers what is settled, in the set's order, and `rest` holds the others, in the set's
/// order. Whoever asks anew for `rest` merges both answers by the order of the first set.
pub(crate) async fn delete(
    session: &Session,
    ask: &Delete,
    observed: &ObservedState,
) -> ApplyOutcome {
    let resource = match discovery::served(session, VOLSYNC, "replicationsources").await {
        Ok(resource) => resource,
        Err(error) => return ApplyOutcome::Done(Err(error)),
    };
    let saved: HashMap<(&str, &str), &Value> =
        observed.objects.iter().map(|object| ((namespace(object), name(object)), object)).collect();
    let (mut completed, mut rest, mut message, mut away) =
        (Vec::new(), Vec::new(), String::new(), None);
    for (index, group) in ask.set.chunks(ask.pacing.batch_size.max(1) as usize).enumerate() {
        if index > 0 && away.is_none() && ask.pacing.interval_ms > 0 {
            session.pause(Duration::from_millis(ask.pacing.interval_ms.into())).await;
        }
        // Between two groups is a safe point. A set that was begun is not given up before its first.
        if index > 0 && session.stopped() {
            away.get_or_insert_with(|| "stopped before it".into());
        }
        let attempts = match &away {
            // Once nobody answers, the rest is left alone instead of being tried for hours.
            Some(why) => group
                .iter()
                .map(|_| {
                    Attempt::Away(DeletionOutcome::Rejected, format!("it was not tried: {why}"))
                })
                .collect(),
            None => {
                concurrently(
                    group
                        .iter()
                        .map(|frozen| {
                            attempt(
                                session,
                                &resource,
                                frozen,
                                saved
                                    .get(&(&frozen.object.namespace, &frozen.object.name))
                                    .copied(),
                            )
                        })
                        .collect(),
                    group.len(),
                )
                .await
            }
        };
        for (frozen, attempt) in group.iter().zip(attempts) {
            match attempt {
                Attempt::AlreadyDone(deletion) => completed.push(deletion),
                Attempt::Again(why) => {
                    rest.push(frozen.clone());
                    message = why;
                }
                Attempt::Away(end, why) => {
                    completed.push(ended(frozen, end, Some(why.clone())));
                    away.get_or_insert(why);
                }
            }
        }
    }
    if rest.is_empty() {
        return ApplyOutcome::Done(Ok(Answer::Delete(completed)));
    }
    ApplyOutcome::Conflict {
        completed: (!completed.is_empty()).then_some(Answer::Delete(completed)),
        rest: Write::Delete(Delete { set: rest, pacing: ask.pacing.clone() }),
        message,
    }
}

/// Deletes one, if its manifest was saved.
async fn attempt(
    session: &Session,
    resource: &Resource,
    frozen: &DeletionTarget,
    saved: Option<&Value>,
) -> Attempt {
    let (ns, object) = (&frozen.object.namespace, &frozen.object.name);
    let Some(saved) = saved else {
        // It was settled before anything was sent. Why, is read again: the prior holds only what is to be deleted.
        return match session.find(resource, Some(ns), object).await {
            Ok(found) => Attempt::AlreadyDone(judge(frozen, found.as_ref()).unwrap_or_else(|| {
                ended(
                    frozen,
                    DeletionOutcome::Changed,
                    Some("its spec was another one when it was to be deleted".into()),
                )
            })),
            Err(failure) => Attempt::AlreadyDone(ended(
                frozen,
                DeletionOutcome::Rejected,
                Some(Error::from(failure).text().to_owned()),
            )),
        };
    };
    // mutant delete-without-resource-version: (version(saved)) ~> (version(saved)).filter(|_|
    //     false)
    let failure =
        match session.delete(resource, ns, object, &frozen.uid, Some(version(saved))).await {
            Ok(answer) => {
                let held = Some(finalizers(&answer))
                    .filter(|held| !held.is_empty())
                    .map(|held| format!("its finalizers hold it: {}", held.join(", ")));
                return Attempt::AlreadyDone(ended(frozen, DeletionOutcome::Deleted, held));
            }
            Err(failure) => failure,
        };
    let lost = failure.is_lost();
    match &failure.how {
        How::Refused(refusal) if refusal.code == 404 => {
            return Attempt::AlreadyDone(ended(frozen, DeletionOutcome::AlreadyGone, None));
        }
        How::Refused(refusal) if refusal.code == 409 => {}
        How::Lost(_) => {}
        How::Unsent(_) => {
            return Attempt::Away(
                DeletionOutcome::Rejected,
                Error::from(failure).text().to_owned(),
            );
        }
        How::Refused(_) | How::Credentials(_) | How::Blocked(_) => {
            return Attempt::AlreadyDone(ended(
                frozen,
                DeletionOutcome::Rejected,
                Some(Error::from(failure).text().to_owned()),
            ));
        }
    }
    let why = failure.message();
    match session.find(resource, Some(ns), object).await {
        Ok(found)
            if lost
                && found
                    .as_ref()
                    .is_none_or(|found| uid(found) != frozen.uid || is_terminating(found)) =>
        {
            Attempt::AlreadyDone(ended(
                frozen,
                DeletionOutcome::Deleted,
                Some(format!("no answer came ({why}), and it is gone")),
            ))
        }
        // The same still: its status moved, or the request got lost. A late one does what is wanted, to this uid alone.
        Ok(found) => {
            judge(frozen, found.as_ref()).map_or(Attempt::Again(why), Attempt::AlreadyDone)
        }
        // mutant lost-delete-called-refused: if lost { DeletionOutcome::Unknown } else { DeletionOutcome::Rejected } ~>
        //     DeletionOutcome::Rejected
        Err(failure) => Attempt::Away(
            if lost { DeletionOutcome::Unknown } else { DeletionOutcome::Rejected },
            format!("{why}; and then {}", Error::from(failure).text()),
        ),
    }
}

/// Finds out which of the set are gone. A deletion that arrives late does what a second one would do, to its uid alone.
pub(crate) async fn settle(
    session: &Session,
    ask: &Delete,
    observed: &ObservedState,
) -> ApplyOutcome {
    let resource = match discovery::served(session, VOLSYNC, "replicationsources").await {
        Ok(resource) => resource,
        Err(error) => return ApplyOutcome::Done(Err(error)),
    };
    let found = concurrently(
        ask.set
            .iter()
            .map(|frozen| {
                session.find(&resource, Some(&frozen.object.namespace), &frozen.object.name)
            })
            .collect(),
        AT_ONCE,
    )
    .await;
    let was_there =
        |frozen: &DeletionTarget| observed.objects.iter().any(|object| uid(object) == frozen.uid);
    let (mut completed, mut rest) = (Vec::new(), Vec::new());
    for (frozen, found) in ask.set.iter().zip(found) {
        let found = match found {
            Ok(found) => found,
            Err(failure) => return ApplyOutcome::Done(Err(failure.into())),
        };
        let is_gone =
            found.as_ref().is_none_or(|found| uid(found) != frozen.uid || is_terminating(found));
        match judge(frozen, found.as_ref()) {
            Some(_) if was_there(frozen) && is_gone => completed.push(ended(
                frozen,
                DeletionOutcome::Deleted,
                Some("its sender died, and it is gone".into()),
            )),
            Some(end) => completed.push(end),
            None => rest.push(frozen.clone()),
        }
    }
    if rest.is_empty() {
        return ApplyOutcome::Done(Ok(Answer::Delete(completed)));
    }
    let message = format!("{} of {} were still there", rest.len(), ask.set.len());
    ApplyOutcome::Conflict {
        completed: (!completed.is_empty()).then_some(Answer::Delete(completed)),
        rest: Write::Delete(Delete { set: rest, pacing: ask.pacing.clone() }),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::effect::shared::ObjectRef;
    use serde_json::json;

    #[test]
    fn only_what_was_chosen_is_still_to_be_deleted() {
        let object = json!({"metadata": {"uid": "u"}, "spec": {"sourcePVC": "sonarr"}});
        let frozen = DeletionTarget {
            object: ObjectRef::new("media", "sonarr"),
            uid: "u".into(),
            digest: spec_digest(&object),
            reason: String::new(),
        };
        let end = |found: Option<&Value>| judge(&frozen, found).map(|deletion| deletion.outcome);
        assert_eq!(end(Some(&object)), None);
        assert_eq!(end(None), Some(DeletionOutcome::AlreadyGone));
        let mut namesake = object.clone();
        namesake["metadata"]["uid"] = "v".into();
        assert_eq!(end(Some(&namesake)), Some(DeletionOutcome::Replaced));
        let mut changed = object.clone();
        changed["spec"]["paused"] = true.into();
        assert_eq!(end(Some(&changed)), Some(DeletionOutcome::Changed));
        let mut moved = object;
        moved["status"] = json!({"lastSyncTime": "now"});
        moved["metadata"]["resourceVersion"] = "9".into();
        assert_eq!(end(Some(&moved)), None);
    }
}
