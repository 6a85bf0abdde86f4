//! What a person has approved is what runs: the touches of a plan in their order, bound by uid, generation and spec.

use crate::effect::delete_replicationsources::Frozen;
use crate::effect::shared::FluxRef;
use crate::effect::{Effect, Touch};
use crate::journal::{Entry, Origin, Prior};
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
    pub touches: Vec<Approved>,
}

/// One touch of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approved {
    /// The touch.
    pub touch: Touch,
    /// What it met.
    pub prior: Prior,
}

/// How what would be done differs from what was approved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Difference(String);

impl Approval {
    /// The touches of a plan, from its file.
    pub fn of(plan: &str, digest: &str, entries: &[Entry]) -> Self {
        let touches = entries.iter().filter_map(|entry| match entry {
            // One that needed nothing, or could not be: it must not be anything else when it counts.
            Entry::Planned(done) | Entry::Done(done)
                if done.origin == Origin::Guest && done.denial.is_none() =>
            {
                match &done.effect {
                    Effect::Touch(touch) => Some(Approved {
                        touch: touch.clone(),
                        prior: done.prior.clone().unwrap_or_default(),
                    }),
                    Effect::Look(_) | Effect::Own(_) => None,
                }
            }
            _ => None,
        });
        Self { plan: plan.into(), digest: digest.into(), touches: touches.collect() }
    }

    /// Whether the touch after `done` others is the one that was approved.
    ///
    /// # Guarantees
    /// A plan ends where nobody can know more. After its end, what it suspended may be given back, and its owners asked to
    /// reconcile; nothing else.
    ///
    /// # Errors
    /// Names what appeared, went or changed since.
    pub fn allows(&self, done: usize, touch: &Touch) -> Result<Option<&Approved>, Difference> {
        let Some(approved) = self.touches.get(done) else {
            return if self.follows(touch) {
                Ok(None)
            } else {
                Err(differs(format!("{} is not in the plan {}", described(touch), self.plan)))
            };
        };
        if let Some(difference) = difference(&approved.touch, touch) {
            return Err(differs(format!("{difference} since plan {} was approved", self.plan)));
        }
        Ok(Some(approved))
    }

    /// Whether this may come after the plan's end.
    fn follows(&self, touch: &Touch) -> bool {
        let frozen = |target: &FluxRef| {
            self.touches
                .iter()
                .any(|one| matches!(&one.touch, Touch::Suspend(s) if s.targets.contains(target)))
        };
        match touch {
            Touch::Resume(_) => true,
            Touch::Reconcile(reconcile) => frozen(&reconcile.target),
            Touch::AcquireLease(_)
            | Touch::ReleaseLease(_)
            | Touch::Suspend(_)
            | Touch::Delete(_)
            | Touch::Recreate(_)
            | Touch::Restart(_) => false,
        }
    }
}

impl Approved {
    /// Whether a touch still meets what it met in the plan: all of it, or where it is tried `again`, what is left.
    ///
    /// # Errors
    /// Names the first object that is another, or in another state.
    pub fn meets(&self, now: &Prior, again: bool) -> Result<(), Difference> {
        let then: BTreeMap<String, &Value> =
            self.prior.objects.iter().map(|object| (place(object), object)).collect();
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
        if self.prior.objects.is_empty() {
            Ok(())
        } else {
            Err(differs(format!(
                "{} is no longer needed, or no longer possible, as it was approved",
                described(&self.touch)
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

fn described(touch: &Touch) -> String {
    let targets: Vec<_> = touch.targets().iter().map(ToString::to_string).collect();
    format!("{} of {}", touch.name(), row(&targets))
}

fn difference(then: &Touch, now: &Touch) -> Option<String> {
    match (then, now) {
        (Touch::Delete(then), Touch::Delete(now)) => {
            let key = |frozen: &Frozen| frozen.object.to_string();
            let bound = |frozen: &Frozen| (frozen.uid.clone(), frozen.digest.clone());
            sets("ReplicationSource", &then.set, &now.set, key, bound).or_else(|| {
                (then.pace != now.pace).then(|| "the pace of the deletions has changed".into())
            })
        }
        (Touch::Suspend(then), Touch::Suspend(now)) => {
            sets("Flux object", &then.targets, &now.targets, FluxRef::to_string, |_| ())
        }
        (Touch::Restart(then), Touch::Restart(now)) => {
            (then != now).then(|| format!("Deployment {} is to be restarted otherwise", now.target))
        }
        (Touch::Resume(then), Touch::Resume(now)) => (then.target != now.target)
            .then(|| format!("{} is resumed in place of {}", now.target, then.target)),
        (Touch::Reconcile(then), Touch::Reconcile(now)) => {
            (then != now).then(|| format!("{} is to be reconciled otherwise", now.target))
        }
        (
            Touch::AcquireLease(_)
            | Touch::ReleaseLease(_)
            | Touch::Suspend(_)
            | Touch::Resume(_)
            | Touch::Reconcile(_)
            | Touch::Delete(_)
            | Touch::Recreate(_)
            | Touch::Restart(_),
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
    use crate::effect::delete_replicationsources::{Delete, Pace};
    use crate::effect::reconcile_flux::Reconcile;
    use crate::effect::restart_deployment::{Restart, Strategy};
    use crate::effect::shared::{FluxKind, ObjectRef};
    use crate::effect::suspend_flux::{Prior as Was, Resume, Suspend};
    use serde_json::json;

    fn app(name: &str) -> FluxRef {
        FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: name.into() }
    }

    fn suspend(names: &[&str]) -> Touch {
        Touch::Suspend(Suspend {
            targets: names.iter().map(|name| app(name)).collect(),
            reason: "x".into(),
            drain_seconds: 1,
        })
    }

    fn delete(set: &[(&str, &str, &str)]) -> Touch {
        let frozen = |(name, uid, digest): &(&str, &str, &str)| Frozen {
            object: ObjectRef::new("media", *name),
            uid: (*uid).into(),
            digest: (*digest).into(),
            why: format!("for {uid} days"),
        };
        Touch::Delete(Delete {
            set: set.iter().map(frozen).collect(),
            pace: Pace { at_once: 1, pause: 0 },
        })
    }

    fn restart(uid: &str) -> Touch {
        Touch::Restart(Restart {
            target: ObjectRef::new("rook-ceph", "x"),
            uid: uid.into(),
            strategy: Strategy::Annotate,
        })
    }

    fn approval() -> Approval {
        let touches = [
            suspend(&["a", "b"]),
            delete(&[("sonarr", "u1", "d1"), ("plex", "u2", "d2")]),
            restart("u"),
        ];
        let touches =
            touches.into_iter().map(|touch| Approved { touch, prior: Prior::default() }).collect();
        Approval { plan: "7c1d".into(), digest: "d".into(), touches }
    }

    fn refusal(done: usize, touch: &Touch) -> String {
        approval().allows(done, touch).unwrap_err().to_string()
    }

    #[test]
    fn the_same_in_another_order_and_other_words_is_the_same() {
        assert!(approval().allows(0, &suspend(&["b", "a"])).is_ok());
        let Touch::Delete(mut same) = delete(&[("plex", "u2", "d2"), ("sonarr", "u1", "d1")])
        else {
            unreachable!()
        };
        same.set[0].why = "for 43 days".into();
        assert!(approval().allows(1, &Touch::Delete(same)).is_ok());
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
        let resume =
            Touch::Resume(Resume { target: app("a"), uid: "u".into(), prior: Was::Absent });
        assert!(approval().allows(3, &resume).is_ok());
        let reconcile = |name: &str| {
            Touch::Reconcile(Reconcile { target: app(name), force: false, wait_seconds: 0 })
        };
        assert!(approval().allows(3, &reconcile("a")).is_ok());
        assert!(refusal(3, &reconcile("c")).contains("is not in the plan"));
        assert!(refusal(3, &restart("u")).contains("is not in the plan"));
    }

    #[test]
    fn an_object_is_bound_by_uid_generation_and_spec_and_not_by_its_version() {
        let object = json!({"kind": "ReplicationSource", "metadata": {"namespace": "media", "name": "sonarr", "uid": "u", "generation": 3, "resourceVersion": "7"}, "spec": {"sourcePVC": "sonarr"}, "status": {"n": 1}});
        let approved =
            Approved { touch: restart("u"), prior: Prior { objects: vec![object.clone()], at: 0 } };
        let meets = |change: fn(&mut Value)| {
            let mut now = object.clone();
            change(&mut now);
            approved.meets(&Prior { objects: vec![now], at: 1 }, false)
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
            approved.meets(&Prior::default(), true).is_ok()
                && approved.meets(&Prior::default(), false).is_err()
        );
        let more = json!({"kind": "ReplicationSource", "metadata": {"namespace": "media", "name": "plex"}});
        assert!(
            approved
                .meets(&Prior { objects: vec![object.clone(), more], at: 1 }, false)
                .unwrap_err()
                .to_string()
                .contains("was not there")
        );
    }
}
