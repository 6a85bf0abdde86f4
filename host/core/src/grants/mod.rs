//! Whether a run may make a call: denied by default, decided before anything happens.
//!
//! A Remediation and an operator's policy are two layers. A call must pass every layer, so neither
//! can widen the other.

mod evidence;
mod grant;
mod schema;
mod selector;

pub use evidence::{Evidence, EvidenceItem, LogLines, RecordedEvidence};
pub use grant::{Approval, Grant, MOVERS, Max, mover_of_section};
pub use selector::Selector;

use crate::capability::types::Kind;
use crate::capability::{Answer, Capability, Effect, Read, Target};
use crate::glob::Glob;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The grants of one document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The document's path or name, for people.
    pub source: String,
    pub grants: Vec<Grant>,
}

/// All grants of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Grants {
    /// A call must pass each of them. Without any, nothing is allowed.
    pub layers: Vec<Layer>,
}

/// A grant: the number of its layer, and its number in the layer.
type GrantId = (usize, usize);

/// What a run has used of its grants' maxima, and the evidence that it has recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    used: BTreeMap<GrantId, u32>,
    evidence: RecordedEvidence,
}

/// The permission for one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Permit {
    charges: BTreeMap<GrantId, u32>,
    /// The document that requires approval.
    pub approval: Option<String>,
}

/// What a call has reserved of the maxima. Attempts count, whatever their outcome.
#[derive(Debug)]
pub struct Reservation {
    charges: BTreeMap<GrantId, u32>,
}

/// By grant, the evidence that is still missing.
type MissingEvidence = BTreeMap<GrantId, String>;

/// Why a grant that names a target does not apply now.
enum DenialReason {
    LimitReached(u32, &'static str),
    EvidenceMissing(String),
    /// What about the object does not match, and what would.
    ObjectMismatch(String, String),
    FieldNotGranted(String),
}

/// Why a call is denied, by which document, and what would allow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}; {document} {remedy}")]
pub struct Denial {
    pub what: String,
    pub document: String,
    pub remedy: String,
    /// A person could approve it, and no one did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_approval: bool,
}

/// What a decision is based on.
struct Usage<'a> {
    tally: &'a Tally,
    /// Not counted: the call's own reservation.
    own: Option<&'a Reservation>,
    missing: MissingEvidence,
    /// By grant, a field that it does not allow to set.
    ungranted: BTreeMap<GrantId, String>,
}

impl Usage<'_> {
    fn used(&self, grant: GrantId) -> u32 {
        let own = self.own.and_then(|own| own.charges.get(&grant)).unwrap_or(&0);
        self.tally.used.get(&grant).unwrap_or(&0).saturating_sub(*own)
    }
}

impl Grants {
    /// Decides on a guest's call before anything is read.
    ///
    /// # Guarantees
    /// Denies what no grant of *every* layer names. More layers never allow more; more grants in a
    /// layer never allow less. The answer depends on the arguments alone.
    ///
    /// # Errors
    /// The call is denied.
    pub fn decide(&self, effect: &Effect, tally: &Tally) -> Result<Permit, Denial> {
        self.decide_with_objects(effect, &[], tally, None)
    }

    /// Decides again once the objects of a write have been read, before anything is sent: now their
    /// labels and movers count. `own` is the reservation of the first decision.
    ///
    /// # Guarantees
    /// As [`Grants::decide`]. Each object needs one grant per layer that applies in all respects:
    /// names, maxima, evidence, labels, and movers. That grant decides whether approval is
    /// required, and its maximum is charged.
    ///
    /// # Errors
    /// The call is denied.
    pub fn decide_with_objects(
        &self,
        effect: &Effect,
        objects: &[Value],
        tally: &Tally,
        own: Option<&Reservation>,
    ) -> Result<Permit, Denial> {
        let mut permit = Permit::default();
        if !effect.needs_grant() {
            return Ok(permit);
        }
        let usage = self.usage(effect, tally, own);
        let capability = effect.capability();
        let targets = effect.targets();
        if self.layers.is_empty() {
            return Err(deny(effect, targets.first(), "no document"));
        }
        // mutant second-document-ignored: enumerate() ~> enumerate().take(1)
        for (l, layer) in self.layers.iter().enumerate() {
            if targets.is_empty() && !layer.grants.iter().any(|g| g.capability == capability) {
                return Err(deny(effect, None, &layer.source));
            }
            for target in &targets {
                let object = judged_object(effect, target, objects);
                // Objects of a set that are already done are not read. A single object must be.
                if let (None, [only], false) = (object, targets.as_slice(), objects.is_empty()) {
                    let reason = DenialReason::ObjectMismatch(
                        "another object was read in its place".into(),
                        "that object itself".into(),
                    );
                    return Err(deny_because(effect, only, &layer.source, Some(reason)));
                }
                let (id, grant) = self
                    .applicable_grant(l, effect, target, object, &usage, &permit)
                    .map_err(|reason| deny_because(effect, target, &layer.source, reason))?;
                *permit.charges.entry(id).or_default() += 1;
                if grant.approval.is_some() && effect.changes_cluster() {
                    permit.approval.get_or_insert_with(|| layer.source.clone());
                }
            }
        }
        Ok(permit)
    }

    fn usage<'a>(
        &self,
        effect: &Effect,
        tally: &'a Tally,
        own: Option<&'a Reservation>,
    ) -> Usage<'a> {
        let missing = self.missing_evidence(effect, tally);
        Usage { tally, own, missing, ungranted: self.ungranted_fields(effect) }
    }

    /// Returns a field of this call that each grant of its capability does not allow to set.
    fn ungranted_fields(&self, effect: &Effect) -> BTreeMap<GrantId, String> {
        let fields = effect.fields();
        let ungranted = |grant: &Grant| {
            let granted = effect.function().granted_fields(grant);
            fields.iter().find(|field| !granted.contains(field)).map(|field| field.join("."))
        };
        self.grants_of(effect.capability())
            .filter_map(|(id, grant)| Some((id, ungranted(grant)?)))
            .collect()
    }

    /// Returns the grants of a capability in all layers.
    fn grants_of(&self, capability: Capability) -> impl Iterator<Item = (GrantId, &Grant)> {
        let all = self.layers.iter().enumerate().flat_map(|(l, layer)| {
            layer.grants.iter().enumerate().map(move |(g, grant)| ((l, g), grant))
        });
        all.filter(move |(_, grant)| grant.capability == capability)
    }

    /// Returns the kinds that only these grants name and that a run may change temporarily.
    pub fn reversible_kinds(&self) -> Vec<Kind> {
        let is_reversible = |capability: Capability| {
            capability.requires_kinds()
                && capability.functions().any(|function| function.reversed_by().is_some())
        };
        let grants = self.layers.iter().flat_map(|layer| &layer.grants);
        grants
            .filter(|grant| is_reversible(grant.capability))
            .flat_map(|grant| grant.kinds.iter().flatten().filter(|kind| kind.is_plain()))
            .filter_map(|kind| Kind::parse(kind.as_str()).ok())
            .collect()
    }

    /// Returns the evidence that each grant of this capability is missing.
    fn missing_evidence(&self, effect: &Effect, tally: &Tally) -> MissingEvidence {
        let requires_evidence = match effect {
            Effect::Write(write) => write.requires_evidence(),
            Effect::Local(_) | Effect::Read(_) | Effect::Reversal(_) => false,
        };
        if !requires_evidence {
            return MissingEvidence::new();
        }
        self.grants_of(effect.capability())
            .filter_map(|(id, grant)| {
                Some((id, grant.evidence.as_ref()?.missing(&tally.evidence)?))
            })
            .collect()
    }

    /// Returns the grant of a layer that applies to a target after the charges of `permit`,
    /// preferably one that requires no approval.
    ///
    /// # Errors
    /// Why the last grant that names the target does not apply; none if no grant names it.
    fn applicable_grant(
        &self,
        l: usize,
        effect: &Effect,
        target: &Target,
        object: Option<&Value>,
        usage: &Usage<'_>,
        permit: &Permit,
    ) -> Result<(GrantId, &Grant), Option<DenialReason>> {
        let limit = effect.function().limit();
        let (mut reason, mut requires_approval) = (None, None);
        for (g, grant) in self.layers[l].grants.iter().enumerate() {
            if !grant.matches(effect.capability(), target) {
                continue;
            }
            let id = (l, g);
            let used = usage.used(id) + permit.charges.get(&id).unwrap_or(&0);
            let max = limit.and_then(|limit| Some((grant.max.of(limit)?, limit)));
            reason = if let Some((max, limit)) = max.filter(|(max, _)| used >= *max) {
                Some(DenialReason::LimitReached(max, limit.key))
            // mutant ungranted-field-set: (&id) ~> (&id).filter(|_| false)
            } else if let Some(field) = usage.ungranted.get(&id) {
                Some(DenialReason::FieldNotGranted(field.clone()))
            } else if let Some(missing) = usage.missing.get(&id) {
                Some(DenialReason::EvidenceMissing(missing.clone()))
            // mutant labels-and-movers-ignored: object.map_or ~> object.filter(|_| false).map_or
            } else if let Err((what, fix)) =
                object.map_or(Ok(()), |object| grant.matches_object(object))
            {
                Some(DenialReason::ObjectMismatch(what, fix))
            } else if grant.approval.is_none() || !effect.changes_cluster() {
                return Ok((id, grant));
            } else {
                requires_approval.get_or_insert((id, grant));
                reason
            };
        }
        requires_approval.ok_or(reason)
    }

    /// Counts a call that was made before, whatever is granted now. `objects` is what it observed.
    pub fn count(&self, effect: &Effect, objects: &[Value], tally: &mut Tally) -> Reservation {
        let mut permit = Permit::default();
        if effect.needs_grant() {
            let usage = self.usage(effect, tally, None);
            for (l, layer) in self.layers.iter().enumerate() {
                for target in &effect.targets() {
                    let object = judged_object(effect, target, objects);
                    let applicable =
                        self.applicable_grant(l, effect, target, object, &usage, &permit);
                    let named = || {
                        let matches = |grant: &Grant| grant.matches(effect.capability(), target);
                        layer.grants.iter().position(matches).map(|g| (l, g))
                    };
                    if let Some(id) = applicable.ok().map(|(id, _)| id).or_else(named) {
                        *permit.charges.entry(id).or_default() += 1;
                    }
                }
            }
        }
        tally.reserve(&permit)
    }

    /// Returns the namespaces in which every layer grants a capability, for requests that follow a
    /// reference.
    pub fn granted_namespaces(&self, capability: Capability) -> Vec<Glob> {
        let [first, rest @ ..] = self.layers.as_slice() else { return vec![] };
        let others: Vec<Vec<Glob>> =
            rest.iter().map(|layer| namespaces(layer, capability)).collect();
        // A pattern passes only if each other layer has the same one or a wider one that is easy to
        // compare: an intersection that may be too narrow, never too wide.
        let covered = |glob: &Glob| {
            others.iter().all(|layer| {
                layer.iter().any(|other| {
                    other.is_every()
                        || other == glob
                        || (glob.is_plain() && other.matches(glob.as_str()))
                })
            })
        };
        let mut granted: Vec<Glob> =
            namespaces(first, capability).into_iter().filter(covered).collect();
        let in_every_layer = |glob: &Glob| {
            self.layers.iter().all(|layer| {
                namespaces(layer, capability).iter().any(|other| other.matches(glob.as_str()))
            })
        };
        let plain = others.iter().flatten().filter(|glob| glob.is_plain());
        granted.extend(plain.filter(|glob| in_every_layer(glob)).cloned());
        granted
    }

    /// Returns a document that requires approval for a write, if one does.
    pub fn approving_document(&self) -> Option<&str> {
        let requires = |layer: &&Layer| layer.grants.iter().any(|grant| grant.approval.is_some());
        self.layers.iter().find(requires).map(|layer| layer.source.as_str())
    }

    /// Returns whether every layer has a grant that names each target of a call, whatever else the
    /// grants require.
    pub fn name_targets(&self, effect: &Effect) -> bool {
        let capability = effect.capability();
        let named = |layer: &Layer, target: &Target| {
            layer.grants.iter().any(|grant| grant.matches(capability, target))
        };
        self.names(capability)
            && effect.targets().iter().all(|target| self.layers.iter().all(|l| named(l, target)))
    }

    /// Returns whether every layer has a grant of this capability.
    pub fn names(&self, capability: Capability) -> bool {
        !self.layers.is_empty()
            && self.layers.iter().all(|l| l.grants.iter().any(|g| g.capability == capability))
    }
}

fn namespaces(layer: &Layer, capability: Capability) -> Vec<Glob> {
    let grants = layer.grants.iter().filter(|grant| grant.capability == capability);
    grants.flat_map(|grant| grant.namespaces.clone()).collect()
}

fn judged_object<'a>(
    effect: &'a Effect,
    target: &Target,
    objects: &'a [Value],
) -> Option<&'a Value> {
    match effect {
        Effect::Write(write) => write.judged_object(target, objects),
        Effect::Local(_) | Effect::Read(_) | Effect::Reversal(_) => None,
    }
}

fn deny_because(
    effect: &Effect,
    target: &Target,
    source: &str,
    reason: Option<DenialReason>,
) -> Denial {
    let name = effect.name();
    match reason {
        None => deny(effect, Some(target), source),
        Some(DenialReason::ObjectMismatch(what, fix)) => Denial {
            what: format!("{name} {target} is not granted: {what}"),
            document: source.into(),
            remedy: format!("would allow it with {fix} in that grant"),
            needs_approval: false,
        },
        Some(DenialReason::FieldNotGranted(field)) => Denial {
            what: format!("{name} {target} is not granted for the field {field}"),
            document: source.into(),
            remedy: format!("would allow it with `fields: [{field}]` in that grant"),
            needs_approval: false,
        },
        Some(DenialReason::LimitReached(max, key)) => Denial {
            what: format!(
                "{name} {target}: limit reached: {source} allows at most {max} {key} per run"
            ),
            document: source.into(),
            remedy: format!("would allow it with `max: {{{key}: {}}}`", u64::from(max) + 1),
            needs_approval: false,
        },
        Some(DenialReason::EvidenceMissing(missing)) => Denial {
            what: format!(
                "{name} {target}: {source} requires evidence before this call: {missing}"
            ),
            document: source.into(),
            remedy: "would allow it once that is recorded, or without `evidence` in that grant"
                .into(),
            needs_approval: false,
        },
    }
}

fn deny(effect: &Effect, target: Option<&Target>, source: &str) -> Denial {
    let what = match target {
        Some(target) => format!("{} {target} is not granted", effect.name()),
        None => format!("{} is not granted", effect.name()),
    };
    let mut line = format!("{{capability: {}", effect.capability());
    if let Some(target) = target {
        if let Some(kind) = &target.kind {
            line += &format!(", kinds: [{}]", kind.resource);
        }
        if let Some(ns) = &target.namespace {
            line += &format!(", namespaces: [{ns}]");
        }
        if let Some(name) = &target.name {
            line += &format!(", names: [{name}]");
        }
    }
    if effect.capability().grant_shape().fields {
        let fields: Vec<String> = effect.fields().iter().map(|field| field.join(".")).collect();
        let fields: Vec<&str> =
            fields.iter().map(String::as_str).filter(|f| !f.starts_with("metadata.")).collect();
        line += &format!(", fields: [{}]", fields.join(", "));
    }
    Denial {
        what,
        document: source.into(),
        remedy: format!("would allow it with `- {line}}}` under spec.grants"),
        needs_approval: false,
    }
}

impl Tally {
    /// Reserves what a permit charges.
    pub fn reserve(&mut self, permit: &Permit) -> Reservation {
        for (id, n) in &permit.charges {
            // mutant attempts-uncounted: *self.used.entry(*id).or_default() += n ~> drop((id, n))
            *self.used.entry(*id).or_default() += n;
        }
        Reservation { charges: permit.charges.clone() }
    }

    /// Replaces a reservation by the charges of a later decision on the same call.
    pub fn amend(&mut self, reservation: &mut Reservation, permit: &Permit) {
        for (id, n) in &reservation.charges {
            if let Some(used) = self.used.get_mut(id) {
                *used = used.saturating_sub(*n);
            }
        }
        *reservation = self.reserve(permit);
    }

    /// Records what a read contributes as evidence.
    pub fn record_evidence(&mut self, read: &Read, answer: &Answer) {
        self.evidence.record(read, answer);
    }
}

#[cfg(test)]
mod tests;
