//! What a person has approved is what runs: the touches of a plan in their order, bound by uid, generation and spec.

use crate::effect::delete_replicationsources::DeletionTarget;
use crate::effect::shared::FluxRef;
use crate::effect::{Effect, Write};
use crate::journal::{Entry, ObservedState, Origin};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The plan that was approved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// The plan's run.
    pub plan: String,
    /// SHA-256 of its file.
    pub digest: String,
    /// Its touches, in their order.
    pub writes: Vec<Approved>,
}

/// One touch of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approved {
    /// The touch.
    pub write: Write,
    /// What it met.
    pub observed: ObservedState,
}

/// How what would be done differs from what was approved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Difference(String);

impl Approval {
    /// The touches of a plan, from its file.
    pub fn of(plan: &str, digest: &str, entries: &[Entry]) -> Self {
        let writes = entries.iter().filter_map(|entry| match entry {
            // One that needed nothing, or could not be: it must not be anything else when it counts.
            Entry::Planned(done) | Entry::Done(done)
                if done.origin == Origin::Guest && done.denial.is_none() =>
            {
                match &done.effect {
                    Effect::Write(write) => Some(Approved {
                        write: write.clone(),
                        observed: done.observed.clone().unwrap_or_default(),
                    }),
                    Effect::Read(_) | Effect::Local(_) => None,
                }
            }
            _ => None,
        });
        Self { plan: plan.into(), digest: digest.into(), writes: writes.collect() }
    }

    /// Whether the touch after `done` others is the one that was approved.
    ///
    /// # Guarantees
    /// A plan ends where nobody can know more. After its end, what it suspended may be given back, and its owners asked to
    /// reconcile; nothing else.
    ///
    /// # Errors
    /// Names what appeared, went or changed since.
    pub fn allows(&self, done: usize, write: &Write) -> Result<Option<&Approved>, Difference> {
        let Some(approved) = self.writes.get(done) else {
            return if self.follows(write) {
                Ok(None)
            } else {
                Err(differs(format!("{} is not in the plan {}", described(write), self.plan)))
            };
        };
        if let Some(difference) = difference(&approved.write, write) {
            return Err(differs(format!("{difference} since plan {} was approved", self.plan)));
        }
        Ok(Some(approved))
    }

    /// Whether this may come after the plan's end.
    fn follows(&self, write: &Write) -> bool {
        let frozen = |target: &FluxRef| {
            self.writes
                .iter()
                .any(|one| matches!(&one.write, Write::Suspend(s) if s.targets.contains(target)))
        };
        match write {
            Write::Resume(_) => true,
            Write::Reconcile(reconcile) => frozen(&reconcile.target),
            Write::AcquireLease(_)
            | Write::ReleaseLease(_)
            | Write::Suspend(_)
            | Write::Delete(_)
            | Write::Recreate(_)
            | Write::Restart(_) => false,
        }
    }
}

impl Approved {
    /// Whether a touch still meets what it met in the plan: all of it, or where it is tried `again`, what is left.
    ///
    /// # Errors
    /// Names the first object that is another, or in another state.
    pub fn meets(&self, now: &ObservedState, again: bool) -> Result<(), Difference> {
        let then: BTreeMap<String, &Value> =
            self.observed.objects.iter().map(|object| (place(object), object)).collect();
        // Pods come and go by themselves; which have to go is frozen when the restart begins.
        let bound = |object: &&Value| object["kind"] != "Pod";
        if let Some((missing, _)) = then.iter().find(|(place_, object)| {
            bound(object) && !again && !now.objects.iter().any(|now| place(now) == **place_)
        }) {
            return Err(differs(format!(
                "{missing} is not as it was approved: it is gone, or somebody else has it"
            )));
        }
        for object in now.objects.iter().filter(bound) {
            let place = place(object);
            let Some(before) = then.get(&place) else {
                return Err(differs(format!("{place} was not there when it was approved")));
            };
            if before["metadata"]["uid"] != object["metadata"]["uid"] {
                return Err(differs(format!(
                    "{place} is another object than the one that was approved"
                )));
            }
            // mutant edited-owner-accepted: metadata"]["generation"] !=
            //     object["metadata"]["generation"] || before[" ~>
            if before["metadata"]["generation"] != object["metadata"]["generation"]
                || before["spec"] != object["spec"]
            {
                return Err(differs(format!("{place} has changed since it was approved")));
            }
        }
        Ok(())
    }

    /// Whether nothing is to be sent where the plan would have sent something.
    ///
    /// # Errors
    /// Says so.
    pub fn is_settled(&self) -> Result<(), Difference> {
        if self.observed.objects.is_empty() {
            Ok(())
        } else {
            Err(differs(format!(
                "{} is no longer needed, or no longer possible, as it was approved",
                described(&self.write)
            )))
        }
    }
}

fn differs(text: String) -> Difference {
    Difference(text)
}

fn place(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!(
        "{} {}/{}",
        text(&object["kind"]),
        text(&object["metadata"]["namespace"]),
        text(&object["metadata"]["name"])
    )
}

fn described(write: &Write) -> String {
    let targets: Vec<_> = write.targets().iter().map(ToString::to_string).collect();
    format!("{} of {}", write.name(), row(&targets))
}

fn difference(then: &Write, now: &Write) -> Option<String> {
    match (then, now) {
        (Write::Delete(then), Write::Delete(now)) => {
            let key = |frozen: &DeletionTarget| frozen.object.to_string();
            let bound = |frozen: &DeletionTarget| (frozen.uid.clone(), frozen.digest.clone());
            sets("ReplicationSource", &then.set, &now.set, key, bound).or_else(|| {
                (then.pacing != now.pacing).then(|| "the pace of the deletions has changed".into())
            })
        }
        (Write::Suspend(then), Write::Suspend(now)) => {
            sets("Flux object", &then.targets, &now.targets, FluxRef::to_string, |_| ())
        }
        (Write::Restart(then), Write::Restart(now)) => {
            (then != now).then(|| format!("Deployment {} is to be restarted otherwise", now.target))
        }
        (Write::Resume(then), Write::Resume(now)) => (then.target != now.target)
            .then(|| format!("{} is resumed in place of {}", now.target, then.target)),
        (Write::Reconcile(then), Write::Reconcile(now)) => {
            (then != now).then(|| format!("{} is to be reconciled otherwise", now.target))
        }
        (
            Write::AcquireLease(_)
            | Write::ReleaseLease(_)
            | Write::Suspend(_)
            | Write::Resume(_)
            | Write::Reconcile(_)
            | Write::Delete(_)
            | Write::Recreate(_)
            | Write::Restart(_),
            now,
        ) => Some(format!("{} has come in place of {}", described(now), described(then))),
    }
}

/// How two sets differ, in words.
fn sets<T, B: PartialEq>(
    what: &str,
    then: &[T],
    now: &[T],
    key: impl Fn(&T) -> String,
    bound: impl Fn(&T) -> B,
) -> Option<String> {
    let index =
        |all: &[T]| all.iter().map(|one| (key(one), bound(one))).collect::<BTreeMap<_, _>>();
    let (before, after) = (index(then), index(now));
    // mutant wider-set-than-approved: name| !before.contains_key(*name) ~> _| false
    let appeared: Vec<String> =
        after.keys().filter(|name| !before.contains_key(*name)).cloned().collect();
    let gone: Vec<String> =
        before.keys().filter(|name| !after.contains_key(*name)).cloned().collect();
    let changed: Vec<String> = after
        .iter()
        .filter(|(name, bound)| before.get(*name).is_some_and(|b| b != *bound))
        .map(|(name, _)| name.clone())
        .collect();
    let parts: Vec<String> = [("appeared", appeared), ("went", gone), ("changed", changed)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(how, names)| {
            format!(
                "{} {what}{} {how} ({})",
                names.len(),
                if names.len() == 1 { "" } else { "s" },
                row(&names)
            )
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The first few names.
fn row(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::delete_replicationsources::{Delete, Pacing};
    use crate::effect::reconcile_flux::Reconcile;
    use crate::effect::restart_deployment::{Restart, Strategy};
    use crate::effect::shared::{FluxKind, ObjectRef};
    use crate::effect::suspend_flux::{PreviousSuspend, Resume, Suspend};
    use serde_json::json;

    fn app(name: &str) -> FluxRef {
        FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: name.into() }
    }

    fn suspend(names: &[&str]) -> Write {
        Write::Suspend(Suspend {
            targets: names.iter().map(|name| app(name)).collect(),
            reason: "x".into(),
            drain_seconds: 1,
        })
    }

    fn delete(set: &[(&str, &str, &str)]) -> Write {
        let frozen = |(name, uid, digest): &(&str, &str, &str)| DeletionTarget {
            object: ObjectRef::new("media", *name),
            uid: (*uid).into(),
            digest: (*digest).into(),
            reason: format!("for {uid} days"),
        };
        Write::Delete(Delete {
            set: set.iter().map(frozen).collect(),
            pacing: Pacing { batch_size: 1, interval_ms: 0 },
        })
    }

    fn restart(uid: &str) -> Write {
        Write::Restart(Restart {
            target: ObjectRef::new("rook-ceph", "x"),
            uid: uid.into(),
            strategy: Strategy::Annotate,
        })
    }

    fn approval() -> Approval {
        let writes = [
            suspend(&["a", "b"]),
            delete(&[("sonarr", "u1", "d1"), ("plex", "u2", "d2")]),
            restart("u"),
        ];
        let writes = writes
            .into_iter()
            .map(|write| Approved { write, observed: ObservedState::default() })
            .collect();
        Approval { plan: "7c1d".into(), digest: "d".into(), writes }
    }

    fn refusal(done: usize, write: &Write) -> String {
        approval().allows(done, write).unwrap_err().to_string()
    }

    #[test]
    fn the_same_in_another_order_and_other_words_is_the_same() {
        assert!(approval().allows(0, &suspend(&["b", "a"])).is_ok());
        let Write::Delete(mut same) = delete(&[("plex", "u2", "d2"), ("sonarr", "u1", "d1")])
        else {
            unreachable!()
        };
        same.set[0].reason = "for 43 days".into();
        assert!(approval().allows(1, &Write::Delete(same)).is_ok());
    }

    #[test]
    fn what_appeared_went_or_changed_is_named() {
        let more = refusal(
            1,
            &delete(&[
                ("sonarr", "u1", "d1"),
                ("plex", "u2", "d2"),
                ("radarr", "u3", "d3"),
                ("bazarr", "u4", "d4"),
            ]),
        );
        assert_eq!(
            more,
            "2 ReplicationSources appeared (media/bazarr, media/radarr) since plan 7c1d was approved"
        );
        let other = refusal(1, &delete(&[("sonarr", "u9", "d1")]));
        assert_eq!(
            other,
            "1 ReplicationSource went (media/plex), 1 ReplicationSource changed (media/sonarr) since plan 7c1d was approved"
        );
        assert!(
            refusal(1, &delete(&[("sonarr", "u1", "d9"), ("plex", "u2", "d2")]))
                .contains("changed")
        );
        assert!(refusal(0, &suspend(&["a"])).contains("1 Flux object went"));
        assert!(refusal(2, &restart("v")).contains("otherwise"));
        assert!(refusal(0, &restart("u")).contains("in place of"));
    }

    #[test]
    fn after_its_end_only_what_it_froze_is_given_back_and_asked() {
        let resume = Write::Resume(Resume {
            target: app("a"),
            uid: "u".into(),
            previous: PreviousSuspend::Absent,
        });
        assert!(approval().allows(3, &resume).is_ok());
        let reconcile = |name: &str| {
            Write::Reconcile(Reconcile { target: app(name), force: false, wait_seconds: 0 })
        };
        assert!(approval().allows(3, &reconcile("a")).is_ok());
        assert!(refusal(3, &reconcile("c")).contains("is not in the plan"));
        assert!(refusal(3, &restart("u")).contains("is not in the plan"));
    }

    #[test]
    fn an_object_is_bound_by_uid_generation_and_spec_and_not_by_its_version() {
        let object = json!({"kind": "ReplicationSource", "metadata": {"namespace": "media", "name": "sonarr", "uid": "u", "generation": 3, "resourceVersion": "7"}, "spec": {"sourcePVC": "sonarr"}, "status": {"n": 1}});
        let approved = Approved {
            write: restart("u"),
            observed: ObservedState { objects: vec![object.clone()], at: 0 },
        };
        let meets = |change: fn(&mut Value)| {
            let mut now = object.clone();
            change(&mut now);
            approved.meets(&ObservedState { objects: vec![now], at: 1 }, false)
        };
        assert!(meets(|o| o["metadata"]["resourceVersion"] = "8".into()).is_ok());
        assert!(meets(|o| o["status"]["n"] = 2.into()).is_ok());
        assert!(
            meets(|o| o["metadata"]["uid"] = "v".into())
                .unwrap_err()
                .to_string()
                .contains("another object")
        );
        assert!(
            meets(|o| o["metadata"]["generation"] = 4.into())
                .unwrap_err()
                .to_string()
                .contains("has changed")
        );
        assert!(
            meets(|o| o["spec"]["paused"] = true.into())
                .unwrap_err()
                .to_string()
                .contains("has changed")
        );
        assert!(
            meets(|o| o["metadata"]["name"] = "plex".into())
                .unwrap_err()
                .to_string()
                .contains("is gone")
        );
        assert!(
            approved.meets(&ObservedState::default(), true).is_ok()
                && approved.meets(&ObservedState::default(), false).is_err()
        );
        let more = json!({"kind": "ReplicationSource", "metadata": {"namespace": "media", "name": "plex"}});
        assert!(
            approved
                .meets(&ObservedState { objects: vec![object.clone(), more], at: 1 }, false)
                .unwrap_err()
                .to_string()
                .contains("was not there")
        );
    }
}
