//! Whether a run may perform an effect: deny by default, decided before anything happens.
//!
//! What a remediation asks for and what an operator's policy allows are two layers; an effect must
//! pass every layer, so neither can widen the other.

mod evidence;
mod grant;
mod selector;

pub use evidence::{Evidence, LogLines, RecordedEvidence};
pub use grant::{Approval, Grant, MOVERS, Max};
pub use selector::Selector;

use crate::effect::{Effect, Local, Read, Target, Write};
use crate::glob::Glob;
use crate::outcome::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The grants of one document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Which document, for people.
    pub source: String,
    /// Its grants.
    pub grants: Vec<Grant>,
}

/// All that holds for a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Grants {
    /// Every effect must pass each of them. No layer allows nothing.
    pub layers: Vec<Layer>,
}

/// What a run has used up, by layer and grant, and what it has found out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    used: BTreeMap<(usize, usize), u32>,
    evidence: RecordedEvidence,
}

/// The permission for one effect, to be charged to the tally before it is performed.
#[derive(Clone, Debug, PartialEq)]
pub struct Permit {
    charges: BTreeMap<(usize, usize), u32>,
    /// The document that wants a person's yes first.
    pub approval: Option<String>,
}

/// By document and grant, what evidence is not there yet.
type Missing = BTreeMap<(usize, usize), String>;

/// Why a grant that fits does not hold now.
enum DenialReason {
    Exhausted(u32, &'static str),
    Evidence(String),
    /// The object is not as it wants it: what is not, and what would fit.
    Unmet(String, String),
}

/// Why not, whose word that is, and what would allow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}; {document} {remedy}")]
pub struct Denial {
    /// What was asked.
    pub what: String,
    /// The document that forbids it.
    pub document: String,
    /// What would allow it.
    pub remedy: String,
}

impl Grants {
    /// Decides on an effect of the guest before anything of it is read: what is refused here is asked of nobody.
    ///
    /// # Guarantees
    /// Denies what no grant of *every* layer names. More layers never allow more; more grants in a
    /// layer never allow less. The answer depends on the arguments alone.
    pub fn decide(&self, effect: &Effect, tally: &Tally) -> Result<Permit, Denial> {
        self.decide_with_objects(effect, &[], tally)
    }

    /// Decides once more when the objects that a touch meets have been read, before anything is sent: now their labels and movers count.
    ///
    /// # Guarantees
    /// As [`Grants::decide`], and each object that was read needs one grant of every layer that holds for it in all respects: names, maxima,
    /// evidence, labels, movers. That grant says whether a person is asked, and its maximum is charged.
    pub fn decide_with_objects(
        &self,
        effect: &Effect,
        objects: &[Value],
        tally: &Tally,
    ) -> Result<Permit, Denial> {
        let mut permit = Permit { charges: BTreeMap::new(), approval: None };
        if !needs_grant(effect) {
            return Ok(permit);
        }
        let missing = self.missing(effect, tally);
        let capability = effect.capability();
        let targets = effect.targets();
        if self.layers.is_empty() {
            return Err(deny(effect, targets.first(), "no document", capability));
        }
        // mutant second-document-ignored: enumerate() ~> enumerate().take(1)
        for (l, layer) in self.layers.iter().enumerate() {
            if targets.is_empty() && !layer.grants.iter().any(|g| g.capability == capability) {
                return Err(deny(effect, None, &layer.source, capability));
            }
            for target in &targets {
                let object = object(effect, target, objects);
                // Of a set, what is settled already is not met; of one thing, nothing but that thing may be.
                if let (None, [only], false) = (object, targets.as_slice(), objects.is_empty()) {
                    let why = DenialReason::Unmet(
                        "something else was read in its place".into(),
                        "that object itself".into(),
                    );
                    return Err(denied_because(effect, only, &layer.source, Some(why)));
                }
                let (g, grant) = self
                    .applicable_grant(l, effect, target, object, (tally, &missing), &permit)
                    .map_err(|why| denied_because(effect, target, &layer.source, why))?;
                *permit.charges.entry((l, g)).or_default() += 1;
                if grant.approval.is_some() && is_write(effect) {
                    permit.approval.get_or_insert_with(|| layer.source.clone());
                }
            }
        }
        Ok(permit)
    }

    /// What evidence each grant of this capability lacks: looked for once, whatever the number of targets.
    fn missing(&self, effect: &Effect, tally: &Tally) -> Missing {
        let all = self.layers.iter().enumerate().flat_map(|(l, layer)| {
            layer.grants.iter().enumerate().map(move |(g, grant)| ((l, g), grant))
        });
        let wanting = all.filter(|(_, grant)| {
            requires_evidence(effect) && grant.capability == effect.capability()
        });
        wanting
            .filter_map(|(place, grant)| {
                Some((place, grant.evidence.as_ref()?.missing(&tally.evidence)?))
            })
            .collect()
    }

    /// The grant of a layer that holds for a target after what `permit` charges already; of several the one that asks nobody. If none
    /// does, why not the last that names it.
    fn applicable_grant(
        &self,
        l: usize,
        effect: &Effect,
        target: &Target,
        object: Option<&Value>,
        (tally, missing): (&Tally, &Missing),
        permit: &Permit,
    ) -> Result<(usize, &Grant), Option<DenialReason>> {
        let fitting = self.layers[l]
            .grants
            .iter()
            .enumerate()
            .filter(|(_, grant)| grant.matches(effect.capability(), target));
        let (mut reason, mut asks) = (None, None);
        for (g, grant) in fitting {
            let used =
                tally.used.get(&(l, g)).unwrap_or(&0) + permit.charges.get(&(l, g)).unwrap_or(&0);
            let missing = missing.get(&(l, g));
            reason = if let Some((max, what)) = grant.max.of(effect).filter(|(max, _)| used >= *max)
            {
                Some(DenialReason::Exhausted(max, what))
            } else if let Some(missing) = missing {
                // mutant labels-and-movers-ignored: map_or ~> filter(|_| false).map_or
                Some(DenialReason::Evidence(missing.clone()))
            } else if let Err(unmet) = object.map_or(Ok(()), |object| grant.matches_object(object))
            {
                Some(DenialReason::Unmet(unmet.0, unmet.1))
            } else if grant.approval.is_none() || !is_write(effect) {
                return Ok((g, grant));
            } else {
                asks.get_or_insert((g, grant));
                reason
            };
        }
        asks.ok_or(reason)
    }

    /// Counts an effect that was performed before, whatever is granted today: attempts count, recovered ones too. `objects` is what it met.
    pub fn count(&self, effect: &Effect, objects: &[Value], tally: &mut Tally) -> Permit {
        let mut permit = Permit { charges: BTreeMap::new(), approval: None };
        if needs_grant(effect) {
            let missing = self.missing(effect, tally);
            for (l, layer) in self.layers.iter().enumerate() {
                for target in &effect.targets() {
                    let applicable_grant = self
                        .applicable_grant(
                            l,
                            effect,
                            target,
                            object(effect, target, objects),
                            (tally, &missing),
                            &permit,
                        )
                        .ok()
                        .map(|(g, _)| g);
                    let named = || {
                        layer
                            .grants
                            .iter()
                            .position(|grant| grant.matches(effect.capability(), target))
                    };
                    if let Some(g) = applicable_grant.or_else(named) {
                        *permit.charges.entry((l, g)).or_default() += 1;
                    }
                }
            }
        }
        tally.charge(&permit);
        permit
    }

    /// The namespaces where every layer grants `capability`, for requests that follow a reference.
    pub fn granted_namespaces(&self, capability: &str) -> Vec<Glob> {
        match self.layers.as_slice() {
            [] => vec![],
            [first, rest @ ..] => namespaces(first, capability)
                .into_iter()
                // A glob passes only if each other layer has the same one or one that fits everything:
                // an intersection of globs that may be narrower than the truth, never wider.
                .filter(|glob| {
                    rest.iter().all(|layer| {
                        namespaces(layer, capability).iter().any(|o| {
                            o.is_every()
                                || o == glob
                                || (glob.is_plain() && o.matches(glob.as_str()))
                        })
                    })
                })
                .chain(rest.iter().flat_map(|layer| namespaces(layer, capability)).filter(|glob| {
                    glob.is_plain()
                        && self.layers.iter().all(|layer| {
                            namespaces(layer, capability).iter().any(|o| o.matches(glob.as_str()))
                        })
                }))
                .collect(),
        }
    }

    /// Whether some grant of every layer names this capability: what linking asks.
    pub fn names(&self, capability: &str) -> bool {
        !self.layers.is_empty()
            && self.layers.iter().all(|l| l.grants.iter().any(|g| g.capability == capability))
    }
}

fn namespaces(layer: &Layer, capability: &str) -> Vec<Glob> {
    layer
        .grants
        .iter()
        .filter(|g| g.capability == capability)
        .flat_map(|g| g.namespaces.clone())
        .collect()
}

/// The object of a target: what it met, or what is made.
fn object<'a>(effect: &'a Effect, target: &Target, objects: &'a [Value]) -> Option<&'a Value> {
    if let Effect::Write(Write::Recreate(recreate)) = effect {
        return recreate.set.iter().map(|one| &one.manifest).find(|manifest| target.is(manifest));
    }
    objects.iter().find(|object| target.is(object))
}

fn is_write(effect: &Effect) -> bool {
    match effect {
        Effect::Write(_) => true,
        Effect::Read(_) | Effect::Local(_) => false,
    }
}

fn needs_grant(effect: &Effect) -> bool {
    match effect {
        Effect::Local(local) => match local {
            Local::Now(_)
            | Local::Sleep(_)
            | Local::Step(_)
            | Local::Note(_)
            | Local::AskUser(_) => false,
        },
        Effect::Read(look) => match look {
            Read::GetIdentity(_)
            | Read::ReviewAccess(_)
            | Read::RequestToken(_)
            | Read::CheckPolicies(_)
            | Read::Lease(_)
            | Read::FindLeftovers(_) => false,
            Read::FindOwners(_)
            | Read::GetFluxObject(_)
            | Read::ListSources(_)
            | Read::ListDestinations(_)
            | Read::ListPvcs(_)
            | Read::ListSnapshots(_)
            | Read::FindDriver(_)
            | Read::ListPods(_)
            | Read::ListObjects(_)
            | Read::GetObject(_)
            | Read::NextPage(_)
            | Read::AwaitRollout(_) => true,
        },
        Effect::Write(write) => match write {
            // The host's own, around what it performs for a guest.
            Write::AcquireLease(_) | Write::ReleaseLease(_) => false,
            // Giving back what this run suspended was decided when it was suspended.
            // mutant undo-needs-no-grant: Resume(_) ~> Resume(_) | Write::Recreate(_)
            Write::Resume(_) => false,
            Write::Suspend(_)
            | Write::Reconcile(_)
            | Write::Delete(_)
            | Write::Recreate(_)
            | Write::Restart(_) => true,
        },
    }
}

/// A look needs none, and making anew what a run has deleted needs no trouble that is still there.
fn requires_evidence(effect: &Effect) -> bool {
    match effect {
        Effect::Write(Write::Recreate(_)) | Effect::Read(_) | Effect::Local(_) => false,
        Effect::Write(
            Write::AcquireLease(_)
            | Write::ReleaseLease(_)
            | Write::Suspend(_)
            | Write::Resume(_)
            | Write::Reconcile(_)
            | Write::Delete(_)
            | Write::Restart(_),
        ) => true,
    }
}

fn denied_because(
    effect: &Effect,
    target: &Target,
    source: &str,
    reason: Option<DenialReason>,
) -> Denial {
    let name = effect.name();
    match reason {
        None => deny(effect, Some(target), source, effect.capability()),
        Some(DenialReason::Unmet(why, matches)) => Denial {
            what: format!("{name} {target} is not granted: {why}"),
            document: source.into(),
            remedy: format!("would allow it with {matches} in that grant"),
        },
        Some(DenialReason::Exhausted(max, what)) => Denial {
            what: format!(
                "{name} {target}: {source} allows {max} {what} in a run, this would be one more"
            ),
            document: source.into(),
            remedy: format!("would allow it with `max: {{{what}: {}}}`", u64::from(max) + 1),
        },
        Some(DenialReason::Evidence(missing)) => Denial {
            what: format!("{name} {target}: {source} wants evidence first: {missing}"),
            document: source.into(),
            remedy:
                "would allow it once that is recorded, or without it under `evidence` in that grant"
                    .into(),
        },
    }
}

fn deny(effect: &Effect, target: Option<&Target>, source: &str, capability: &str) -> Denial {
    let what = match target {
        Some(target) => format!("{} {target} is not granted", effect.name()),
        None => format!("{} is not granted", effect.name()),
    };
    let mut line = format!("{{capability: {capability}");
    if let Some(target) = target {
        if let Some(kind) = &target.kind {
            line += &format!(", kinds: [{kind}]");
        }
        if let Some(ns) = &target.namespace {
            line += &format!(", namespaces: [{ns}]");
        }
        if let Some(name) = &target.name {
            line += &format!(", names: [{name}]");
        }
    }
    Denial {
        what,
        document: source.into(),
        remedy: format!("would allow it with `- {line}}}` under spec.grants"),
    }
}

impl Tally {
    /// Counts an attempt. Attempts count, whatever they come to.
    pub fn charge(&mut self, permit: &Permit) {
        for (grant, n) in &permit.charges {
            // mutant attempts-uncounted: *self.used.entry(*grant).or_default() += n ~> drop((grant,
            //     n))
            *self.used.entry(*grant).or_default() += n;
        }
    }

    /// Takes back a charge, for one that is known better.
    pub fn refund(&mut self, permit: &Permit) {
        for (grant, n) in &permit.charges {
            if let Some(used) = self.used.get_mut(grant) {
                *used = used.saturating_sub(*n);
            }
        }
    }

    /// Takes in what a look came to.
    pub fn record_evidence(&mut self, effect: &Effect, outcome: &Outcome) {
        self.evidence.apply(effect, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::shared::{FluxKind, FluxRef, ObjectRef};
    use crate::effect::{
        TypedCall, delete_replicationsources as del, query_objects, query_pvcs, suspend_flux,
        tail_logs,
    };
    use proptest::prelude::*;
    use serde_json::json;

    fn grant(capability: &str, namespaces: &[&str], names: &[&str]) -> Grant {
        let globs = |list: &[&str]| list.iter().map(|g| Glob::new(g).unwrap()).collect::<Vec<_>>();
        Grant { namespaces: globs(namespaces), names: globs(names), ..Grant::whole(capability) }
    }

    fn layers(layers: &[&[Grant]]) -> Grants {
        Grants {
            layers: layers
                .iter()
                .map(|g| Layer { source: "policy.yaml".into(), grants: g.to_vec() })
                .collect(),
        }
    }

    fn delete(objects: &[(&str, &str)]) -> Effect {
        let set = objects
            .iter()
            .map(|(ns, n)| del::DeletionTarget {
                object: ObjectRef::new(*ns, *n),
                uid: "u".into(),
                digest: "d".into(),
                reason: String::new(),
            })
            .collect();
        del::Delete { set, pacing: del::Pacing { batch_size: 1, interval_ms: 0 } }.effect()
    }

    fn may(grants: &Grants, effect: &Effect) -> bool {
        grants.decide(effect, &Tally::default()).is_ok()
    }

    #[test]
    fn nothing_is_allowed_without_a_grant() {
        assert!(!may(&Grants::default(), &delete(&[("media", "a")])));
        assert!(!may(&layers(&[&[]]), &delete(&[("media", "a")])));
        assert!(!may(
            &layers(&[&[grant("query-pvcs", &["media"], &["*"])]]),
            &delete(&[("media", "a")])
        ));
    }

    #[test]
    fn every_object_of_a_set_has_to_be_granted() {
        let grants = layers(&[&[grant("delete-replicationsources", &["media"], &["son*"])]]);
        assert!(may(&grants, &delete(&[("media", "sonarr")])));
        assert!(!may(&grants, &delete(&[("media", "sonarr"), ("media", "plex")])));
        assert!(!may(&grants, &delete(&[("media", "sonarr"), ("ai", "sonarr")])));
    }

    #[test]
    fn asking_for_all_of_a_namespace_needs_a_grant_for_every_name() {
        let pvcs = query_pvcs::ListPvcs { namespaces: vec!["media".into()] }.effect();
        assert!(may(&layers(&[&[grant("query-pvcs", &["media"], &["*"])]]), &pvcs));
        assert!(!may(&layers(&[&[grant("query-pvcs", &["media"], &["plex"])]]), &pvcs));
    }

    #[test]
    fn both_layers_have_to_allow_it() {
        let wide = grant("delete-replicationsources", &["*"], &["*"]);
        let narrow = grant("delete-replicationsources", &["media"], &["*"]);
        let grants = layers(&[&[wide], &[narrow]]);
        assert!(may(&grants, &delete(&[("media", "a")])));
        assert!(!may(&grants, &delete(&[("ai", "a")])));
    }

    #[test]
    fn attempts_count_towards_a_maximum_and_the_denial_names_it() {
        let mut ten = grant("delete-replicationsources", &["media"], &["*"]);
        ten.max.deletions = Some(2);
        let grants = layers(&[&[ten]]);
        let mut tally = Tally::default();
        let permit = grants.decide(&delete(&[("media", "a")]), &tally).unwrap();
        tally.charge(&permit);
        assert!(grants.decide(&delete(&[("media", "b"), ("media", "c")]), &tally).is_err());
        let permit = grants.decide(&delete(&[("media", "b")]), &tally).unwrap();
        tally.charge(&permit);
        let denial = grants.decide(&delete(&[("media", "c")]), &tally).unwrap_err();
        assert!(
            denial.what.contains("allows 2 deletions") && denial.remedy.contains("deletions: 3"),
            "{denial}"
        );
    }

    #[test]
    fn a_denial_says_the_line_that_would_allow_it() {
        let target = FluxRef {
            kind: FluxKind::Kustomization,
            namespace: "media".into(),
            name: "plex".into(),
        };
        let effect =
            suspend_flux::Suspend { targets: vec![target], reason: "x".into(), drain_seconds: 1 }
                .effect();
        let denial = layers(&[&[]]).decide(&effect, &Tally::default()).unwrap_err();
        assert_eq!(
            denial.remedy,
            "would allow it with `- {capability: suspend-flux, kinds: [kustomization], namespaces: [media], names: [plex]}` under spec.grants"
        );
    }

    #[test]
    fn objects_without_a_namespace_are_granted_by_a_rule_without_namespaces() {
        let list = |namespace: Option<&str>, resource: &str| {
            let kind = query_objects::Kind { group: String::new(), resource: resource.into() };
            query_objects::ListObjects {
                kind,
                namespace: namespace.map(Into::into),
                label_selector: None,
                limit: 1,
                next: None,
            }
            .effect()
        };
        let mut rule = grant("query-objects", &[], &["*"]);
        assert!(!may(&layers(&[&[rule.clone()]]), &list(None, "namespaces")), "no kinds named");
        rule.kinds = Some(vec![Glob::new("namespaces").unwrap()]);
        let grants = layers(&[&[rule]]);
        assert!(may(&grants, &list(None, "namespaces")));
        assert!(!may(&grants, &list(Some("media"), "namespaces")));
        assert!(!may(&grants, &list(None, "nodes")));
    }

    #[test]
    fn a_second_layer_narrows_what_may_be_followed() {
        let grants = layers(&[
            &[grant("query-flux", &["*"], &["*"])],
            &[grant("query-flux", &["flux-system"], &["*"])],
        ]);
        let granted_namespaces = grants.granted_namespaces("query-flux");
        assert!(
            granted_namespaces.iter().any(|g| g.matches("flux-system"))
                && !granted_namespaces.iter().any(|g| g.matches("media"))
        );
    }

    /// A ReplicationSource as a deletion meets it.
    fn met(namespace: &str, name: &str, labels: Value, mover: &str) -> Value {
        json!({
            "kind": "ReplicationSource", "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": {"sourcePVC": name, "trigger": {"schedule": "@daily"}, mover: {"repository": "r"}},
        })
    }

    #[test]
    fn an_object_has_to_be_as_some_grant_of_each_layer_wants_it() {
        let mut plex = grant("delete-replicationsources", &["media"], &["*"]);
        plex.label_selector = Some(Selector::read("app=plex,!keep").unwrap());
        let mut restic = grant("delete-replicationsources", &["*"], &["*"]);
        restic.movers = Some(vec!["restic".into(), "rsync-tls".into()]);
        let effect = delete(&[("media", "a")]);
        let matches_object = |grants: &Grants, labels: Value, mover: &str| {
            let objects =
                [met("media", "z", json!({}), "external"), met("media", "a", labels, mover)];
            grants.decide_with_objects(&effect, &objects, &Tally::default())
        };
        let both = layers(&[&[plex.clone()], &[restic.clone()]]);
        assert!(matches_object(&both, json!({"app": "plex"}), "restic").is_ok());
        assert!(matches_object(&both, json!({"app": "plex"}), "rsyncTLS").is_ok());
        for (labels, mover, why) in [
            (json!({"app": "plex"}), "syncthing", "its mover is none of restic, rsync-tls"),
            (json!({"app": "plex"}), "rsync", "its mover is none of"),
            (json!({"app": "plex", "keep": ""}), "restic", "app=plex,!keep"),
            (json!(null), "restic", "app=plex,!keep"),
        ] {
            let denial = matches_object(&both, labels, mover).unwrap_err();
            assert!(denial.what.contains(why) && denial.what.contains("media/a"), "{denial}");
        }
        // One that wants nothing is met by everything.
        let either = layers(&[&[plex, grant("delete-replicationsources", &["media"], &["*"])]]);
        assert!(matches_object(&either, json!({}), "external").is_ok());
        // One of two movers is one too many.
        let two = json!({"kind": "ReplicationSource", "metadata": {"namespace": "media", "name": "a"}, "spec": {"restic": {}, "syncthing": {}}});
        assert!(
            layers(&[&[restic]]).decide_with_objects(&effect, &[two], &Tally::default()).is_err()
        );
    }

    #[test]
    fn what_was_read_in_place_of_the_object_vouches_for_nothing() {
        let grants = layers(&[&[grant("delete-replicationsources", &["media"], &["*"])]]);
        let (effect, other) = (delete(&[("media", "a")]), met("media", "b", json!({}), "restic"));
        assert!(
            grants
                .decide_with_objects(&effect, &[other], &Tally::default())
                .unwrap_err()
                .what
                .contains("something else was read")
        );
    }

    /// Two grants that each hold in part are no grant that holds.
    #[test]
    fn one_grant_has_to_hold_in_all_respects() {
        let mut labelled = grant("delete-replicationsources", &["media"], &["*"]);
        labelled.label_selector = Some(Selector::read("app=plex").unwrap());
        let effect = delete(&[("media", "a")]);
        let (bears, bare) = (
            [met("media", "a", json!({"app": "plex"}), "restic")],
            [met("media", "a", json!({}), "restic")],
        );
        let any = || grant("delete-replicationsources", &["media"], &["*"]);

        let asks =
            layers(&[&[labelled.clone(), Grant { approval: Some(Approval::Required), ..any() }]]);
        let decided = |objects: &[Value]| {
            asks.decide_with_objects(&effect, objects, &Tally::default()).unwrap()
        };
        assert_eq!(
            (decided(&bears).approval, decided(&bare).approval.is_some()),
            (None, true),
            "who is not labelled is asked about"
        );

        let proven = layers(&[&[
            labelled.clone(),
            Grant {
                evidence: Some(Evidence { pending_claims: Some(1), log_lines: vec![] }),
                ..any()
            },
        ]]);
        assert!(proven.decide_with_objects(&effect, &bears, &Tally::default()).is_ok());
        assert!(
            proven.decide_with_objects(&effect, &bare, &Tally::default()).is_err(),
            "the evidence is wanted of it"
        );

        let once = layers(&[&[
            labelled,
            Grant { max: Max { deletions: Some(1), ..Max::default() }, ..any() },
        ]]);
        let mut tally = Tally::default();
        tally.charge(&once.decide_with_objects(&effect, &bare, &tally).unwrap());
        assert!(
            once.decide_with_objects(&effect, &bare, &tally).is_err(),
            "its own maximum is charged"
        );
        assert!(once.decide_with_objects(&effect, &bears, &tally).is_ok());
        // The same where it was done before a crash.
        let mut tally = Tally::default();
        once.count(&effect, &bare, &mut tally);
        assert!(once.decide_with_objects(&effect, &bare, &tally).is_err());
    }

    #[test]
    fn evidence_is_what_this_run_has_recorded() {
        let mut careful = grant("delete-replicationsources", &["*"], &["*"]);
        careful.evidence = Some(Evidence {
            pending_claims: None,
            log_lines: vec![LogLines { like: Glob::new("*locked*").unwrap(), least: 2 }],
        });
        let grants = layers(&[&[careful]]);
        let line = |text: &str| json!({"pod": "p", "time": 1, "text": text});
        let page = |lines: &[&str]| {
            let lines: Vec<Value> = lines.iter().map(|text| line(text)).collect();
            let page = json!({"lines": lines, "pods": ["p"], "unread": [], "lines_read": 9, "more": false, "newest": null, "position": []});
            Outcome::Ok(serde_json::value::to_raw_value(&page).unwrap())
        };
        let query = tail_logs::Query {
            deployment: ObjectRef::new("rook-ceph", "d"),
            container: "c".into(),
            since: None,
            tail_lines: None,
            limit_bytes: 1,
            pattern: Some("locked".into()),
        };
        let look = tail_logs::NextPage { query, after: vec![] }.effect();
        let mut tally = Tally::default();
        for (lines, enough) in [
            (&[][..], false),
            (&["locked 1"], false),
            (&["locked 1", "all is well"], false),
            (&["locked 1", "is locked 2"], true),
        ] {
            tally.record_evidence(&look, &page(lines));
            let decided = grants.decide(&delete(&[("media", "a")]), &tally);
            assert_eq!(decided.is_ok(), enough, "{lines:?}: {decided:?}");
            if let Err(denial) = decided {
                assert!(denial.what.contains("wants evidence first: 2 log lines like \"*locked*\", and this run has recorded"), "{denial}");
            }
        }
        // What is deleted already may come back without any.
        let back = del::Recreate {
            set: vec![
                del::Manifest::of(&with_version(met("media", "a", json!({}), "restic"))).unwrap(),
            ],
        }
        .effect();
        assert!(grants.decide(&back, &Tally::default()).is_ok());
    }

    fn with_version(mut object: Value) -> Value {
        object["apiVersion"] = json!("volsync.backube/v1alpha1");
        object
    }

    #[test]
    fn a_person_is_asked_unless_some_grant_of_the_layer_asks_nobody() {
        let mut asks = grant("delete-replicationsources", &["media"], &["*"]);
        asks.approval = Some(Approval::Required);
        let free = grant("delete-replicationsources", &["media"], &["a"]);
        let who = |grants: &Grants, name: &str| {
            grants.decide(&delete(&[("media", name)]), &Tally::default()).unwrap().approval
        };
        let alone = layers(&[&[asks.clone()]]);
        assert_eq!(who(&alone, "a"), Some("policy.yaml".into()));
        assert_eq!(who(&layers(&[&[asks.clone(), free.clone()]]), "a"), None);
        assert_eq!(who(&layers(&[&[asks.clone(), free.clone()]]), "b"), Some("policy.yaml".into()));
        // A layer more never asks less.
        assert_eq!(who(&layers(&[&[asks], &[free]]), "a"), Some("policy.yaml".into()));
    }

    fn any_grant() -> impl Strategy<Value = Grant> {
        let part = prop::sample::select(vec!["*", "a", "b", "a*", "?"]);
        (
            prop::sample::select(vec!["delete-replicationsources", "query-pvcs"]),
            prop::collection::vec(part.clone(), 0..3),
            prop::collection::vec(part, 0..3),
        )
            .prop_map(|(c, ns, names)| grant(c, &ns, &names))
    }

    proptest! {
        #[test]
        fn a_layer_more_never_widens_and_a_grant_more_never_narrows(
            one in prop::collection::vec(any_grant(), 0..4), two in prop::collection::vec(any_grant(), 0..4), extra in any_grant(),
            ns in prop::sample::select(vec!["a", "b", "ab"]), name in prop::sample::select(vec!["a", "b", "ab"]),
        ) {
            let effect = delete(&[(ns, name)]);
            let alone = may(&layers(&[&one]), &effect);
            let both = may(&layers(&[&one, &two]), &effect);
            prop_assert!(!both || alone);
            let more: Vec<_> = one.iter().cloned().chain([extra]).collect();
            prop_assert!(!alone || may(&layers(&[&more]), &effect));
        }
    }
}
