//! Whether a run may perform an effect: deny by default, decided before anything happens.
//!
//! What a remediation asks for and what an operator's policy allows are two layers; an effect must
//! pass every layer, so neither can widen the other.

mod evidence;
mod selector;

pub use evidence::{Evidence, Gathered};
pub use selector::Selector;

use crate::effect::query_flux::SubjectKind;
use crate::effect::shared::FluxKind;
use crate::effect::{CAPABILITIES, Effect, Look, Own, Reach, Target, Touch, reach};
use crate::glob::Glob;
use crate::outcome::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// One permission: a capability, and the objects that it may concern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Grant {
    /// The WIT interface.
    pub capability: String,
    /// Flux kinds (`kustomization`), for `query-flux` also the kinds whose owner is asked for (`replication-source`), or `resource.group` for
    /// `query-objects`. None: every kind, but for `query-objects` none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<Glob>>,
    /// Namespaces. None: only objects without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Glob>,
    /// Names. None: every name.
    #[serde(default = "every", skip_serializing_if = "is_every")]
    pub names: Vec<Glob>,
    /// Only objects with such labels, as they are right before the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<Selector>,
    /// Only ReplicationSources of these movers (`restic`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub movers: Option<Vec<String>>,
    /// How often in one run.
    #[serde(default, skip_serializing_if = "Max::is_empty")]
    pub max: Max,
    /// Whether a person has to say yes to each effect, or to the plan that is carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What this run has to have found out before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// Who has to say yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// A person, at a terminal or by a plan. `--yes` is none.
    Required,
}

fn every() -> Vec<Glob> {
    vec![Glob::every()]
}

fn is_every(names: &[Glob]) -> bool {
    names.iter().any(Glob::is_every)
}

/// Maxima of one run. Attempts count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Max {
    /// Objects that `delete-replicationsources` may delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletions: Option<u32>,
    /// Restarts of `restart-deployment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// Objects that `suspend-flux` may suspend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspensions: Option<u32>,
}

impl Max {
    /// The lower of each.
    pub fn least(self, other: Self) -> Self {
        let least = |one: Option<u32>, other: Option<u32>| one.into_iter().chain(other).min();
        Self {
            deletions: least(self.deletions, other.deletions),
            restarts: least(self.restarts, other.restarts),
            suspensions: least(self.suspensions, other.suspensions),
        }
    }
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
    fn of(&self, effect: &Effect) -> Option<(u32, &'static str)> {
        let (max, what) = match effect {
            // Who may delete so many may bring so many back.
            Effect::Touch(Touch::Delete(_) | Touch::Recreate(_)) => (self.deletions, "deletions"),
            Effect::Touch(Touch::Restart(_)) => (self.restarts, "restarts"),
            Effect::Touch(Touch::Suspend(_)) => (self.suspensions, "suspensions"),
            Effect::Touch(Touch::AcquireLease(_) | Touch::ReleaseLease(_) | Touch::Resume(_) | Touch::Reconcile(_)) | Effect::Look(_) | Effect::Own(_) => {
                (None, "")
            }
        };
        max.map(|m| (m, what))
    }
}

impl Grant {
    /// A capability for everything that it could concern, as often as one likes.
    pub fn whole(capability: &str) -> Self {
        Self {
            capability: capability.into(),
            kinds: None,
            namespaces: every(),
            names: every(),
            label_selector: None,
            movers: None,
            max: Max::default(),
            approval: None,
            evidence: None,
        }
    }

    /// Whether this grant can be: a known capability, and nothing beside it that means nothing there.
    pub fn check(&self) -> Result<(), String> {
        let Some(reach) = reach(&self.capability) else {
            let known: Vec<_> = CAPABILITIES.iter().filter(|(_, r)| *r != Reach::Given).map(|(n, _)| *n).collect();
            return Err(format!("there is no capability {:?}; there are {}", crate::text::inert(&self.capability), known.join(", ")));
        };
        if reach == Reach::Given {
            return Err("`run` is given to every guest and needs no grant".into());
        }
        if self.capability == "query-objects" && self.kinds.is_none() {
            return Err("`query-objects` needs `kinds`, e.g. [jobs.batch]".into());
        }
        self.check_kinds()?;
        for (given, key, owner) in [
            (self.max.deletions, "deletions", "delete-replicationsources"),
            (self.max.restarts, "restarts", "restart-deployment"),
            (self.max.suspensions, "suspensions", "suspend-flux"),
        ] {
            if given.is_some() && self.capability != owner {
                return Err(format!("`max.{key}` means something for {owner} only"));
            }
        }
        if self.movers.is_some() && self.capability != "delete-replicationsources" {
            return Err("`movers` means something for delete-replicationsources only".into());
        }
        let for_touches = [(self.label_selector.is_some(), "labelSelector"), (self.approval.is_some(), "approval"), (self.evidence.is_some(), "evidence")];
        if let Some((_, key)) = for_touches.iter().find(|(given, _)| *given && reach != Reach::Touch) {
            return Err(format!("`{key}` means something for what changes the cluster only, and {} looks", self.capability));
        }
        Ok(())
    }

    /// Whether an object that is about to be changed is as this grant wants it; if not, what is not.
    fn meets(&self, object: &Value) -> Result<(), String> {
        if let Some(selector) = self.label_selector.as_ref().filter(|selector| !selector.fits(object)) {
            return Err(format!("it does not bear the labels {:?}", selector.as_str()));
        }
        if let Some(movers) = &self.movers {
            let spec = object["spec"].as_object();
            // As VolSync spells them: `rsyncTLS` is `rsync-tls`.
            let bears = |mover: &String| spec.is_some_and(|spec| spec.keys().any(|key| key.to_lowercase() == mover.replace('-', "")));
            let others = spec.is_some_and(|spec| {
                MOVERS.iter().any(|other| !movers.iter().any(|mover| mover == other) && spec.keys().any(|key| key.to_lowercase() == other.replace('-', "")))
            });
            if others || !movers.iter().any(bears) {
                return Err(format!("its mover is none of {}", movers.join(", ")));
            }
        }
        Ok(())
    }

    /// Kinds that could never fit would be a grant that silently grants nothing.
    fn check_kinds(&self) -> Result<(), String> {
        let Some(kinds) = &self.kinds else { return Ok(()) };
        match self.capability.as_str() {
            "query-objects" => Ok(()),
            "query-flux" | "suspend-flux" | "reconcile-flux" => {
                let subjects: &[SubjectKind] = if self.capability == "query-flux" { &SubjectKind::ALL } else { &[] };
                let words: Vec<_> = FluxKind::ALL.iter().map(|k| k.word()).chain(subjects.iter().map(|k| k.word())).collect();
                match kinds.iter().find(|glob| !words.iter().any(|w| glob.fits(w))) {
                    Some(odd) => Err(format!("no kind is called {:?}; there are {}", crate::text::inert(odd.as_str()), words.join(", "))),
                    None => Ok(()),
                }
            }
            other => Err(format!("`kinds` means nothing for {other}")),
        }
    }

    fn fits(&self, capability: &str, target: &Target) -> bool {
        let kind = match (&self.kinds, &target.kind) {
            (None, _) => capability != "query-objects",
            (Some(kinds), Some(kind)) => kinds.iter().any(|g| g.fits(kind)),
            (Some(_), None) => true,
        };
        let namespace = match &target.namespace {
            Some(ns) => self.namespaces.iter().any(|g| g.fits(ns)),
            None => self.namespaces.is_empty(),
        };
        let name = match &target.name {
            Some(name) => self.names.iter().any(|g| g.fits(name)),
            None => is_every(&self.names),
        };
        self.capability == capability && kind && namespace && name
    }
}

/// The movers of VolSync, as grants spell them.
pub const MOVERS: [&str; 7] = ["restic", "rclone", "rsync", "rsync-tls", "syncthing", "kopia", "external"];

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
    gathered: Gathered,
}

/// The permission for one effect, to be charged to the tally before it is performed.
#[derive(Clone, Debug, PartialEq)]
pub struct Permit {
    charges: BTreeMap<(usize, usize), u32>,
    /// The document that wants a person's yes first.
    pub approval: Option<String>,
}

/// Why a grant that fits does not hold now.
enum Hindrance {
    Exhausted(u32, &'static str),
    Evidence(String),
}

/// Why not, whose word that is, and what would allow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}; {source_} {remedy}")]
pub struct Denial {
    /// What was asked.
    pub what: String,
    /// The document that forbids it.
    pub source_: String,
    /// What would allow it.
    pub remedy: String,
}

impl Grants {
    /// Decides on an effect of the guest.
    ///
    /// # Guarantees
    /// Denies what no grant of *every* layer names. More layers never allow more; more grants in a
    /// layer never allow less. The answer depends on the arguments alone.
    pub fn decide(&self, effect: &Effect, tally: &Tally) -> Result<Permit, Denial> {
        let mut permit = Permit { charges: BTreeMap::new(), approval: None };
        if !needs_grant(effect) {
            return Ok(permit);
        }
        let capability = effect.capability();
        let targets = effect.targets();
        if self.layers.is_empty() {
            return Err(deny(effect, targets.first(), "no document", capability));
        }
        for (l, layer) in self.layers.iter().enumerate() {
            if targets.is_empty() && !layer.grants.iter().any(|g| g.capability == capability) {
                return Err(deny(effect, None, &layer.source, capability));
            }
            for target in &targets {
                let fitting = layer.grants.iter().enumerate().filter(|(_, g)| g.fits(capability, target));
                let mut hindrance = None;
                let mut holding = vec![];
                for (g, grant) in fitting {
                    let used = tally.used.get(&(l, g)).unwrap_or(&0) + permit.charges.get(&(l, g)).unwrap_or(&0);
                    match (grant.max.of(effect), grant.evidence.filter(|_| wants_evidence(effect)).and_then(|evidence| evidence.missing(&tally.gathered))) {
                        (Some((max, what)), _) if used >= max => hindrance = Some(Hindrance::Exhausted(max, what)),
                        (_, Some(missing)) => hindrance = Some(Hindrance::Evidence(missing)),
                        (_, None) => holding.push((g, grant)),
                    }
                }
                // Of several the one that asks nobody.
                let asks = |grant: &Grant| grant.approval.is_some() && matches!(effect, Effect::Touch(_));
                let Some((g, grant)) = holding.iter().find(|(_, grant)| !asks(grant)).or(holding.first()) else {
                    return Err(hindered(effect, target, &layer.source, capability, hindrance));
                };
                *permit.charges.entry((l, *g)).or_default() += 1;
                if asks(grant) {
                    permit.approval.get_or_insert_with(|| layer.source.clone());
                }
            }
        }
        Ok(permit)
    }

    /// Whether the objects that a touch meets are as its grants want them: their labels, their movers. Decided when they were read, before
    /// anything is sent.
    ///
    /// # Guarantees
    /// Each object needs a grant of every layer that fits it and that it meets. Grants without conditions are met by every object.
    pub fn meets(&self, effect: &Effect, objects: &[Value]) -> Result<(), Denial> {
        if !needs_grant(effect) {
            return Ok(());
        }
        let mut made = vec![];
        if let Effect::Touch(Touch::Recreate(recreate)) = effect {
            made.extend(recreate.set.iter().map(|one| one.manifest.clone()));
        }
        let objects = if made.is_empty() { objects } else { &made };
        let capability = effect.capability();
        for target in effect.targets() {
            let Some(object) = objects.iter().find(|object| target.is(object)) else { continue };
            for layer in &self.layers {
                let fitting: Vec<&Grant> = layer.grants.iter().filter(|grant| grant.fits(capability, &target)).collect();
                let met: Vec<Result<(), String>> = fitting.iter().map(|grant| grant.meets(object)).collect();
                if let (Some(Err(why)), false) = (met.first(), met.iter().any(Result::is_ok)) {
                    return Err(Denial {
                        what: format!("{} {target} is not granted: {why}", effect.name()),
                        source_: layer.source.clone(),
                        remedy: "would allow it with another `labelSelector` or `movers` in that grant".into(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Counts an effect that was performed before, whatever is granted today: attempts count, recovered ones too.
    pub fn count(&self, effect: &Effect, tally: &mut Tally) {
        if !needs_grant(effect) {
            return;
        }
        let capability = effect.capability();
        for target in effect.targets() {
            for (l, layer) in self.layers.iter().enumerate() {
                let fitting: Vec<_> = layer.grants.iter().enumerate().filter(|(_, grant)| grant.fits(capability, &target)).collect();
                let used = |g: usize| tally.used.get(&(l, g)).copied().unwrap_or(0);
                let free = fitting.iter().find(|(g, grant)| grant.max.of(effect).is_none_or(|(max, _)| used(*g) < max));
                if let Some((g, _)) = free.or(fitting.first()) {
                    *tally.used.entry((l, *g)).or_default() += 1;
                }
            }
        }
    }

    /// The namespaces where every layer grants `capability`, for requests that follow a reference.
    pub fn followed(&self, capability: &str) -> Vec<Glob> {
        match self.layers.as_slice() {
            [] => vec![],
            [first, rest @ ..] => namespaces(first, capability)
                .into_iter()
                // A glob passes only if each other layer has the same one or one that fits everything:
                // an intersection of globs that may be narrower than the truth, never wider.
                .filter(|glob| {
                    rest.iter()
                        .all(|layer| namespaces(layer, capability).iter().any(|o| o.is_every() || o == glob || (glob.is_plain() && o.fits(glob.as_str()))))
                })
                .chain(
                    rest.iter()
                        .flat_map(|layer| namespaces(layer, capability))
                        .filter(|glob| glob.is_plain() && self.layers.iter().all(|layer| namespaces(layer, capability).iter().any(|o| o.fits(glob.as_str())))),
                )
                .collect(),
        }
    }

    /// Whether some grant of every layer names this capability: what linking asks.
    pub fn names(&self, capability: &str) -> bool {
        !self.layers.is_empty() && self.layers.iter().all(|l| l.grants.iter().any(|g| g.capability == capability))
    }
}

fn namespaces(layer: &Layer, capability: &str) -> Vec<Glob> {
    layer.grants.iter().filter(|g| g.capability == capability).flat_map(|g| g.namespaces.clone()).collect()
}

fn needs_grant(effect: &Effect) -> bool {
    match effect {
        Effect::Own(own) => match own {
            Own::Now(_) | Own::Sleep(_) | Own::Step(_) | Own::Note(_) | Own::AskPerson(_) => false,
        },
        Effect::Look(look) => match look {
            Look::Identity(_) | Look::Access(_) | Look::Token(_) | Look::Policies(_) | Look::Lease(_) | Look::Leftovers(_) => false,
            Look::FluxOwners(_)
            | Look::FluxGet(_)
            | Look::Sources(_)
            | Look::Destinations(_)
            | Look::Claims(_)
            | Look::Snapshots(_)
            | Look::FindDriver(_)
            | Look::Pods(_)
            | Look::ListObjects(_)
            | Look::GetObject(_)
            | Look::LogPage(_)
            | Look::AwaitRollout(_) => true,
        },
        Effect::Touch(touch) => match touch {
            // The host's own, around what it performs for a guest.
            Touch::AcquireLease(_) | Touch::ReleaseLease(_) => false,
            // Giving back what this run suspended was decided when it was suspended.
            Touch::Resume(_) => false,
            Touch::Suspend(_) | Touch::Reconcile(_) | Touch::Delete(_) | Touch::Recreate(_) | Touch::Restart(_) => true,
        },
    }
}

/// A look needs none, and making anew what a run has deleted needs no trouble that is still there.
fn wants_evidence(effect: &Effect) -> bool {
    match effect {
        Effect::Touch(Touch::Recreate(_)) | Effect::Look(_) | Effect::Own(_) => false,
        Effect::Touch(
            Touch::AcquireLease(_) | Touch::ReleaseLease(_) | Touch::Suspend(_) | Touch::Resume(_) | Touch::Reconcile(_) | Touch::Delete(_) | Touch::Restart(_),
        ) => true,
    }
}

fn hindered(effect: &Effect, target: &Target, source: &str, capability: &str, hindrance: Option<Hindrance>) -> Denial {
    let name = effect.name();
    match hindrance {
        None => deny(effect, Some(target), source, capability),
        Some(Hindrance::Exhausted(max, what)) => Denial {
            what: format!("{name} {target}: {source} allows {max} {what} in a run, this would be one more"),
            source_: source.into(),
            remedy: format!("would allow it with `max: {{{what}: {}}}`", u64::from(max) + 1),
        },
        Some(Hindrance::Evidence(missing)) => Denial {
            what: format!("{name} {target}: {source} wants evidence first: {missing}"),
            source_: source.into(),
            remedy: "would allow it with less under `evidence` in that grant".into(),
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
    Denial { what, source_: source.into(), remedy: format!("would allow it with `- {line}}}` under spec.grants") }
}

impl Tally {
    /// Counts an attempt. Attempts count, whatever they come to.
    pub fn charge(&mut self, permit: &Permit) {
        for (grant, n) in &permit.charges {
            *self.used.entry(*grant).or_default() += n;
        }
    }

    /// Takes in what a look came to.
    pub fn gather(&mut self, effect: &Effect, outcome: &Outcome) {
        self.gathered.hear(effect, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::shared::{FluxRef, ObjectRef};
    use crate::effect::{Ask, delete_replicationsources as del, query_objects, query_pvcs, suspend_flux, tail_logs};
    use proptest::prelude::*;
    use serde_json::json;

    fn grant(capability: &str, namespaces: &[&str], names: &[&str]) -> Grant {
        let globs = |list: &[&str]| list.iter().map(|g| Glob::new(g).unwrap()).collect::<Vec<_>>();
        Grant { namespaces: globs(namespaces), names: globs(names), ..Grant::whole(capability) }
    }

    fn layers(layers: &[&[Grant]]) -> Grants {
        Grants { layers: layers.iter().map(|g| Layer { source: "policy.yaml".into(), grants: g.to_vec() }).collect() }
    }

    fn delete(objects: &[(&str, &str)]) -> Effect {
        let set =
            objects.iter().map(|(ns, n)| del::Frozen { object: ObjectRef::new(*ns, *n), uid: "u".into(), digest: "d".into(), why: String::new() }).collect();
        del::Delete { set, pace: del::Pace { at_once: 1, pause: 0 } }.effect()
    }

    fn may(grants: &Grants, effect: &Effect) -> bool {
        grants.decide(effect, &Tally::default()).is_ok()
    }

    #[test]
    fn nothing_is_allowed_without_a_grant() {
        assert!(!may(&Grants::default(), &delete(&[("media", "a")])));
        assert!(!may(&layers(&[&[]]), &delete(&[("media", "a")])));
        assert!(!may(&layers(&[&[grant("query-pvcs", &["media"], &["*"])]]), &delete(&[("media", "a")])));
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
        let claims = query_pvcs::Claims { namespaces: vec!["media".into()] }.effect();
        assert!(may(&layers(&[&[grant("query-pvcs", &["media"], &["*"])]]), &claims));
        assert!(!may(&layers(&[&[grant("query-pvcs", &["media"], &["plex"])]]), &claims));
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
        assert!(denial.what.contains("allows 2 deletions") && denial.remedy.contains("deletions: 3"), "{denial}");
    }

    #[test]
    fn a_denial_says_the_line_that_would_allow_it() {
        let target = FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: "plex".into() };
        let effect = suspend_flux::Suspend { targets: vec![target], reason: "x".into(), drain_seconds: 1 }.effect();
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
            query_objects::ListObjects { kind, namespace: namespace.map(Into::into), label_selector: None, limit: 1, next: None }.effect()
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
        let grants = layers(&[&[grant("query-flux", &["*"], &["*"])], &[grant("query-flux", &["flux-system"], &["*"])]]);
        let followed = grants.followed("query-flux");
        assert!(followed.iter().any(|g| g.fits("flux-system")) && !followed.iter().any(|g| g.fits("media")));
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
        let meets =
            |grants: &Grants, labels: Value, mover: &str| grants.meets(&effect, &[met("media", "z", json!({}), "external"), met("media", "a", labels, mover)]);
        let both = layers(&[&[plex.clone()], &[restic.clone()]]);
        assert!(meets(&both, json!({"app": "plex"}), "restic").is_ok());
        assert!(meets(&both, json!({"app": "plex"}), "rsyncTLS").is_ok());
        for (labels, mover, why) in [
            (json!({"app": "plex"}), "syncthing", "its mover is none of restic, rsync-tls"),
            (json!({"app": "plex"}), "rsync", "its mover is none of"),
            (json!({"app": "plex", "keep": ""}), "restic", "app=plex,!keep"),
            (json!(null), "restic", "app=plex,!keep"),
        ] {
            let denial = meets(&both, labels, mover).unwrap_err();
            assert!(denial.what.contains(why) && denial.what.contains("media/a"), "{denial}");
        }
        // One that wants nothing is met by everything.
        let either = layers(&[&[plex, grant("delete-replicationsources", &["media"], &["*"])]]);
        assert!(meets(&either, json!({}), "external").is_ok());
        // One of two movers is one too many.
        let two = json!({"kind": "ReplicationSource", "metadata": {"namespace": "media", "name": "a"}, "spec": {"restic": {}, "syncthing": {}}});
        assert!(layers(&[&[restic]]).meets(&effect, &[two]).is_err());
    }

    #[test]
    fn evidence_is_what_this_run_has_recorded() {
        let mut careful = grant("delete-replicationsources", &["*"], &["*"]);
        careful.evidence = Some(Evidence { pending_claims: None, log_lines: Some(2) });
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
        let look = tail_logs::Next { query, after: vec![] }.effect();
        let mut tally = Tally::default();
        for (lines, enough) in [(&[][..], false), (&["one"], false), (&["one"], false), (&["one", "two"], true)] {
            tally.gather(&look, &page(lines));
            let decided = grants.decide(&delete(&[("media", "a")]), &tally);
            assert_eq!(decided.is_ok(), enough, "{lines:?}: {decided:?}");
            if let Err(denial) = decided {
                assert!(denial.what.contains("wants evidence first: 2 matching log lines, and this run has recorded"), "{denial}");
            }
        }
        // What is deleted already may come back without any.
        let back = del::Recreate { set: vec![del::Manifest::of(&with_version(met("media", "a", json!({}), "restic"))).unwrap()] }.effect();
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
        let who = |grants: &Grants, name: &str| grants.decide(&delete(&[("media", name)]), &Tally::default()).unwrap().approval;
        let alone = layers(&[&[asks.clone()]]);
        assert_eq!(who(&alone, "a"), Some("policy.yaml".into()));
        assert_eq!(who(&layers(&[&[asks.clone(), free.clone()]]), "a"), None);
        assert_eq!(who(&layers(&[&[asks.clone(), free.clone()]]), "b"), Some("policy.yaml".into()));
        // A layer more never asks less.
        assert_eq!(who(&layers(&[&[asks], &[free]]), "a"), Some("policy.yaml".into()));
    }

    fn any_grant() -> impl Strategy<Value = Grant> {
        let part = prop::sample::select(vec!["*", "a", "b", "a*", "?"]);
        (prop::sample::select(vec!["delete-replicationsources", "query-pvcs"]), prop::collection::vec(part.clone(), 0..3), prop::collection::vec(part, 0..3))
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
