//! The writes of an approved plan, in order. A run makes exactly these, on objects with the same
//! UID, generation, and spec.

use crate::capability::{Effect, Write};
use crate::journal::{Entry, ObservedState, Origin};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// An approved plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// The run that made the plan.
    pub plan: String,
    /// SHA-256 of the plan's run file.
    pub digest: String,
    /// In order.
    pub writes: Vec<Approved>,
    /// It was displayed and confirmed by the same command, and is not saved under its ID.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub displayed: bool,
}

/// A write of an approved plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approved {
    pub write: Write,
    /// The objects that the plan read for it. Empty if it would send nothing.
    pub observed: ObservedState,
}

/// How a run differs from the approved plan, and what to do: the plan is stale.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Difference(String);

/// How many differences of a plan are named.
const NAMED_DIFFERENCES: usize = 5;

impl Approval {
    /// Collects the writes of a plan from its journal.
    pub fn of(plan: &str, digest: &str, entries: &[Entry]) -> Self {
        let writes = entries.iter().filter_map(|entry| {
            // Also a write that would send nothing: the run must not send anything in its place.
            let (Entry::Planned(done) | Entry::Done(done)) = entry else { return None };
            if done.origin != Origin::Guest || done.denial.is_some() {
                return None;
            }
            match &done.effect {
                Effect::Write(write) => Some(Approved {
                    write: write.clone(),
                    observed: done.observed.clone().unwrap_or_default(),
                }),
                Effect::Read(_) | Effect::Local(_) | Effect::Reversal(_) => None,
            }
        });
        let writes = writes.collect();
        Self { plan: plan.into(), digest: digest.into(), writes, displayed: false }
    }

    /// Returns the difference with what to do about it.
    pub fn differs(&self, text: &str) -> Difference {
        let remedy = if self.displayed {
            "run the command again to see the current plan"
        } else {
            "make a new plan with `salve plan`"
        };
        Difference(format!("{text}; {remedy}"))
    }

    /// Names the plan in messages.
    fn name(&self) -> String {
        if self.displayed { "the displayed plan".into() } else { format!("plan {}", self.plan) }
    }

    /// Returns the approved write that this one, the next after `done` others, has to match. None
    /// for one that follows a release and is not a write of the plan: after its end, or where the
    /// guest ends early.
    ///
    /// # Guarantees
    /// A plan ends where the rest cannot be predicted. What is not in it is allowed only if
    /// [`Write::allowed_after_plan`] accepts it: after the end of the plan, and earlier for what
    /// the `done` writes changed, in place of a write of another function.
    ///
    /// # Errors
    /// The write is not the approved one. The text names what appeared, disappeared, or changed.
    pub fn allows(&self, done: usize, write: &Write) -> Result<Option<&Approved>, Difference> {
        self.next(done, write).map_err(|text| self.differs(&text))
    }

    fn next(&self, done: usize, write: &Write) -> Result<Option<&Approved>, String> {
        let reached = self.writes.iter().take(done).map(|approved| &approved.write);
        let follows_release = || write.allowed_after_plan(&reached.collect::<Vec<_>>());
        let Some(approved) = self.writes.get(done) else {
            return if follows_release() {
                Ok(None)
            } else {
                Err(format!("{} is not in {}", describe(write), self.name()))
            };
        };
        let is_other = write.function() != approved.write.function();
        // mutant release-differs-from-plan: is_other && follows_release() ~>
        //     is_other && follows_release() && done > self.writes.len()
        if is_other && follows_release() {
            return Ok(None);
        }
        let replaced = || format!("{} replaces {}", describe(write), describe(&approved.write));
        if let Some(difference) = write.difference(&approved.write, replaced) {
            return Err(format!("{difference} after {} was made", self.name()));
        }
        Ok(Some(approved))
    }

    /// Checks the result of comparing every write that is left after `done` others, before the
    /// first of them is sent.
    ///
    /// # Errors
    /// There are differences. Names the first five of them, and the number of the
    /// others.
    pub fn is_current(&self, done: usize, differences: &[String]) -> Result<(), Difference> {
        if differences.is_empty() {
            return Ok(());
        }
        let named = differences.len().min(NAMED_DIFFERENCES);
        let mut text = differences[..named].join("; ");
        if named < differences.len() {
            text += &format!("; and {} more", differences.len() - named);
        }
        let none = if done == 0 { "none" } else { "no more" };
        let stale = format!("{} is stale, and {none} of it was sent: {text}", self.name());
        Err(self.differs(&stale))
    }

    /// Returns how the writes that the guest would make now, after `done` others, differ from the
    /// plan. `end` is how it would end then.
    pub fn compare(&self, done: usize, now: &[Approved], end: &str) -> Vec<String> {
        let (mut reached, mut differences) = (done, vec![]);
        for Approved { write, .. } in now {
            match self.next(reached, write) {
                Ok(None) => {}
                Ok(Some(_)) => reached += 1,
                Err(difference) => {
                    differences.push(difference);
                    let planned = self.writes.get(reached);
                    if planned.is_none_or(|planned| planned.write.function() != write.function()) {
                        // What follows is compared with the wrong write.
                        return differences;
                    }
                    reached += 1;
                }
            }
        }
        if let Some(missing) = self.writes.get(reached) {
            differences
                .push(format!("{} would no longer be sent: {end}", describe(&missing.write)));
        }
        differences
    }
}

impl Approved {
    /// Checks that a write acts on the objects of the plan, in the same state: on all of them, or,
    /// for a further attempt (`again`), on a part of them.
    ///
    /// # Errors
    /// Names every object that differs.
    pub fn meets(&self, now: &ObservedState, again: bool) -> Result<(), String> {
        let differences = self.differences(now, again, "after the plan was made");
        if differences.is_empty() { Ok(()) } else { Err(differences.join("; ")) }
    }

    /// Returns how the objects of a write differ from those of the plan, one text per object. See
    /// [`Self::meets`]. `since` says when they may have changed.
    pub fn differences(&self, now: &ObservedState, again: bool, since: &str) -> Vec<String> {
        let planned: BTreeMap<String, &Value> =
            self.observed.objects.iter().map(|object| (describe_object(object), object)).collect();
        let bound = |object: &&Value| self.write.binds(object);
        let is_read = |name: &str| now.objects.iter().any(|now| describe_object(now) == name);
        let mut differences = vec![];
        // An earlier attempt may have done its part.
        if !again {
            let missing = planned.iter().filter(|(name, object)| bound(object) && !is_read(name));
            differences.extend(missing.map(|(name, _)| {
                format!("{name} was deleted, or already changed by someone else, {since}")
            }));
        }
        for object in now.objects.iter().filter(bound) {
            let name = describe_object(object);
            let Some(before) = planned.get(&name) else {
                differences.push(format!("{name} appeared {since}"));
                continue;
            };
            if before["metadata"]["uid"] != object["metadata"]["uid"] {
                differences.push(format!("{name} was replaced by another object {since}"));
            // mutant edited-owner-accepted: metadata"]["generation"] !=
            //     object["metadata"]["generation"] || before[" ~>
            } else if before["metadata"]["generation"] != object["metadata"]["generation"]
                || before["spec"] != object["spec"]
            {
                differences.push(format!("{name} changed {since}"));
            }
        }
        differences
    }

    /// Describes a write of the plan that can no longer be prepared, because of `error`.
    pub fn impossible(&self, error: &str) -> String {
        format!("{} is no longer possible: {error}", describe(&self.write))
    }

    /// Checks that the plan would have sent nothing either.
    ///
    /// # Errors
    /// The plan would have sent something, and now nothing is left to send.
    pub fn is_settled(&self) -> Result<(), String> {
        self.unsettled().map_or(Ok(()), Err)
    }

    /// Returns how a write that would send nothing now differs from the plan. See
    /// [`Self::is_settled`].
    pub fn unsettled(&self) -> Option<String> {
        (!self.observed.objects.is_empty()).then(|| {
            format!(
                "{} is no longer needed or no longer possible: its objects changed after the plan \
                 was made",
                describe(&self.write)
            )
        })
    }
}

fn describe_object(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!(
        "{} {}/{}",
        text(&object["kind"]),
        text(&object["metadata"]["namespace"]),
        text(&object["metadata"]["name"])
    )
}

fn describe(write: &Write) -> String {
    let targets: Vec<_> = write.targets().iter().map(ToString::to_string).collect();
    format!("{} of {}", write.name(), join_names(&targets))
}

/// Returns how a set differs from the approved one, in words. `bound` is what must not change.
pub fn compare_sets<T, B: PartialEq>(
    what: &str,
    approved: &[T],
    now: &[T],
    key: impl Fn(&T) -> String,
    bound: impl Fn(&T) -> B,
) -> Option<String> {
    let index =
        |items: &[T]| items.iter().map(|item| (key(item), bound(item))).collect::<BTreeMap<_, _>>();
    let (before, after) = (index(approved), index(now));
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
    let parts: Vec<String> = [("appeared", appeared), ("disappeared", gone), ("changed", changed)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(how, names)| {
            format!(
                "{} {what}{} {how} ({})",
                names.len(),
                if names.len() == 1 { "" } else { "s" },
                join_names(&names)
            )
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Joins the first few names.
fn join_names(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::delete_replicationsources::{Delete, DeletionTarget, Pacing};
    use crate::capability::reconcile_flux::Reconcile;
    use crate::capability::restart_deployment::{Restart, Strategy};
    use crate::capability::suspend_flux::Suspend;
    use crate::capability::types::{FluxKind, FluxRef, ObjectRef};
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
        let target = |(name, uid, digest): &(&str, &str, &str)| DeletionTarget {
            object: ObjectRef::new("media", *name),
            uid: (*uid).into(),
            digest: (*digest).into(),
            reason: format!("for {uid} days"),
        };
        Write::Delete(Delete {
            set: set.iter().map(target).collect(),
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
        Approval { plan: "7c1d".into(), digest: "d".into(), writes, displayed: false }
    }

    fn refusal(done: usize, write: &Write) -> String {
        approval().allows(done, write).unwrap_err().to_string()
    }

    #[test]
    fn order_and_reasons_may_differ() {
        assert!(approval().allows(0, &suspend(&["b", "a"])).is_ok());
        let Write::Delete(mut same) = delete(&[("plex", "u2", "d2"), ("sonarr", "u1", "d1")])
        else {
            unreachable!()
        };
        same.set[0].reason = "for 43 days".into();
        assert!(approval().allows(1, &Write::Delete(same)).is_ok());
    }

    #[test]
    fn objects_that_appeared_disappeared_or_changed_are_named() {
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
            "2 ReplicationSources appeared (media/bazarr, media/radarr) after plan 7c1d was made; \
             make a new plan with `salve plan`"
        );
        let other = refusal(1, &delete(&[("sonarr", "u9", "d1")]));
        assert_eq!(
            other,
            "1 ReplicationSource disappeared (media/plex), 1 ReplicationSource changed \
             (media/sonarr) after plan 7c1d was made; make a new plan with `salve plan`"
        );
        assert!(
            refusal(1, &delete(&[("sonarr", "u1", "d9"), ("plex", "u2", "d2")]))
                .contains("changed")
        );
        assert!(refusal(0, &suspend(&["a"])).contains("1 Flux object disappeared"));
        assert!(refusal(2, &restart("v")).contains("is restarted differently"));
        assert!(refusal(0, &restart("u")).contains(
            "replaces suspend-flux.suspend of Kustomization media/a, Kustomization media/b"
        ));
    }

    #[test]
    fn only_what_the_plan_suspended_is_reconciled_without_being_in_it() {
        let reconcile = |name: &str| {
            Write::Reconcile(Reconcile { target: app(name), force: false, wait_seconds: 0 })
        };
        for done in 1..=3 {
            assert_eq!(approval().allows(done, &reconcile("a")), Ok(None), "after {done}");
        }
        // Nothing is suspended yet.
        assert!(refusal(0, &reconcile("a")).contains("replaces suspend-flux.suspend"));
        assert!(refusal(1, &reconcile("c")).contains("replaces delete-replicationsources.delete"));
        assert!(refusal(3, &reconcile("c")).contains("is not in plan 7c1d"));
        assert!(refusal(3, &restart("u")).contains("is not in plan 7c1d"));
        assert!(refusal(3, &suspend(&["a"])).contains("is not in plan 7c1d"));
    }

    #[test]
    fn the_first_differences_of_a_stale_plan_are_named_and_the_others_counted() {
        let names = |count: usize| -> Vec<String> {
            (0..count).map(|i| format!("Kustomization media/{i} changed")).collect()
        };
        assert_eq!(approval().is_current(0, &[]), Ok(()));
        let text = |count| approval().is_current(1, &names(count)).unwrap_err().to_string();
        assert_eq!(
            text(2),
            "plan 7c1d is stale, and no more of it was sent: Kustomization media/0 changed; \
             Kustomization media/1 changed; make a new plan with `salve plan`"
        );
        assert!(!text(5).contains(" more;"), "{}", text(5));
        assert!(text(6).contains("media/4 changed; and 1 more; make"), "{}", text(6));
    }

    /// A plan that was displayed has no file that an ID would help to find.
    #[test]
    fn a_displayed_plan_is_displayed_again_by_the_same_command() {
        let displayed = Approval { displayed: true, ..approval() };
        let stale = displayed.is_current(0, &["media/a changed".into()]).unwrap_err();
        assert_eq!(
            stale.to_string(),
            "the displayed plan is stale, and none of it was sent: media/a changed; run the \
             command again to see the current plan"
        );
        let other = displayed.allows(0, &suspend(&["a"])).unwrap_err().to_string();
        assert!(!other.contains("7c1d") && !other.contains("`salve plan`"), "{other}");
    }

    #[test]
    fn what_the_guest_would_write_now_is_compared_with_the_plan() {
        let sources = [("sonarr", "u1", "d1"), ("plex", "u2", "d2")];
        let planned = [suspend(&["a", "b"]), delete(&sources), restart("u")];
        let differences = |done: usize, now: &[Write]| {
            let observed = ObservedState::default;
            let now = now.iter().map(|w| Approved { write: w.clone(), observed: observed() });
            approval().compare(done, &now.collect::<Vec<_>>(), "it would find nothing")
        };
        let (first, last) = (planned[0].clone(), planned[2].clone());
        assert_eq!(differences(0, &planned), Vec::<String>::new());
        assert_eq!(differences(1, &planned[1..]), Vec::<String>::new());
        for (now, expected) in [
            (vec![first.clone(), delete(&sources[..1]), last.clone()], vec!["disappeared"]),
            (
                vec![
                    first.clone(),
                    delete(&[sources[0], sources[1], ("x", "u", "d")]),
                    last.clone(),
                ],
                vec!["appeared (media/x)"],
            ),
            (
                vec![first.clone(), delete(&[sources[0], ("plex", "u2", "d9")]), last],
                vec!["changed"],
            ),
            (
                vec![suspend(&["a"]), delete(&sources[..1]), restart("v")],
                vec![
                    "1 Flux object disappeared",
                    "1 ReplicationSource disappeared",
                    "is restarted differently",
                ],
            ),
            (
                vec![first.clone(), delete(&sources)],
                vec!["would no longer be sent: it would find nothing"],
            ),
            (vec![first, restart("u")], vec!["replaces delete-replicationsources.delete"]),
            (vec![], vec!["suspend-flux.suspend of"]),
            ([&planned[..], &[restart("u")]].concat(), vec!["is not in plan 7c1d"]),
        ] {
            let differences = differences(0, &now);
            assert_eq!(differences.len(), expected.len(), "{differences:?}");
            for (difference, expected) in differences.iter().zip(expected) {
                assert!(difference.contains(expected), "{expected}: {differences:?}");
            }
        }
    }

    #[test]
    fn a_write_that_the_plan_would_have_sent_must_still_be_needed() {
        let approved =
            |objects| Approved { write: restart("u"), observed: ObservedState { objects, at: 0 } };
        assert!(approved(vec![]).is_settled().is_ok());
        let error = approved(vec![json!({})]).is_settled().unwrap_err().to_string();
        assert!(error.contains("is no longer needed"), "{error}");
    }

    #[test]
    fn an_object_is_bound_by_uid_generation_and_spec_and_not_by_its_version() {
        let object = json!({
            "kind": "ReplicationSource",
            "metadata": {"namespace": "media", "name": "sonarr", "uid": "u", "generation": 3,
                "resourceVersion": "7"},
            "spec": {"sourcePVC": "sonarr"}, "status": {"n": 1}
        });
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
                .contains("was replaced by another object after the plan was made")
        );
        assert!(
            meets(|o| o["metadata"]["generation"] = 4.into())
                .unwrap_err()
                .to_string()
                .contains("ReplicationSource media/sonarr changed after the plan was made")
        );
        assert!(
            meets(|o| o["spec"]["paused"] = true.into())
                .unwrap_err()
                .to_string()
                .contains("ReplicationSource media/sonarr changed after the plan was made")
        );
        assert!(
            meets(|o| o["metadata"]["name"] = "plex".into()).unwrap_err().to_string().contains(
                "was deleted, or already changed by someone else, after the plan was made"
            )
        );
        assert!(
            approved.meets(&ObservedState::default(), true).is_ok()
                && approved.meets(&ObservedState::default(), false).is_err()
        );
        // Every object that differs is named.
        let other = json!({"kind": "ReplicationSource",
            "metadata": {"namespace": "media", "name": "bazarr", "uid": "b"}});
        let two = Approved {
            write: restart("u"),
            observed: ObservedState { objects: vec![object.clone(), other], at: 0 },
        };
        let error = two.meets(&ObservedState::default(), false).unwrap_err().to_string();
        assert!(error.contains("media/sonarr") && error.contains("media/bazarr"), "{error}");
        let metadata = json!({"namespace": "media", "name": "plex"});
        let more = json!({"kind": "ReplicationSource", "metadata": metadata});
        assert!(
            approved
                .meets(&ObservedState { objects: vec![object.clone(), more], at: 1 }, false)
                .unwrap_err()
                .to_string()
                .contains("ReplicationSource media/plex appeared after the plan was made")
        );
    }
}
