//! Whether a run may perform an effect: deny by default, decided before anything happens.
//!
//! What a remediation asks for and what an operator's policy allows are two layers; an effect must
//! pass every layer, so neither can widen the other.

use crate::effect::shared::FluxKind;
use crate::effect::{CAPABILITIES, Effect, Look, Own, Reach, Target, Touch, reach};
use crate::glob::Glob;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One permission: a capability, and the objects that it may concern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Grant {
    /// The WIT interface.
    pub capability: String,
    /// Flux kinds (`kustomization`), or `resource.group` for `query-objects`. None: every kind, but for `query-objects` none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<Glob>>,
    /// Namespaces. None: only objects without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Glob>,
    /// Names. None: every name.
    #[serde(default = "every", skip_serializing_if = "is_every")]
    pub names: Vec<Glob>,
    /// How often in one run.
    #[serde(default, skip_serializing_if = "Max::is_empty")]
    pub max: Max,
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
    /// Whether this grant can be: a known capability, and maxima that mean something there.
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
        Ok(())
    }

    /// Kinds that could never fit would be a grant that silently grants nothing.
    fn check_kinds(&self) -> Result<(), String> {
        let Some(kinds) = &self.kinds else { return Ok(()) };
        match self.capability.as_str() {
            "query-objects" => Ok(()),
            "query-flux" | "suspend-flux" | "reconcile-flux" => {
                let words: Vec<_> = FluxKind::ALL.iter().map(|k| k.word()).collect();
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

/// What a run has used up, by layer and grant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    used: BTreeMap<(usize, usize), u32>,
}

/// The permission for one effect, to be charged to the tally before it is performed.
#[derive(Clone, Debug, PartialEq)]
pub struct Permit {
    charges: BTreeMap<(usize, usize), u32>,
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
        let mut charges = BTreeMap::new();
        if !needs_grant(effect) {
            return Ok(Permit { charges });
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
                let mut exhausted = None;
                let fitting = layer.grants.iter().enumerate().filter(|(_, g)| g.fits(capability, target));
                let mut found = false;
                for (g, grant) in fitting {
                    let charge = charges.entry((l, g)).or_insert(0u32);
                    match grant.max.of(effect) {
                        Some((max, what)) if tally.used.get(&(l, g)).unwrap_or(&0) + *charge >= max => {
                            exhausted = Some((max, what));
                        }
                        Some(_) | None => {
                            *charge += 1;
                            found = true;
                            break;
                        }
                    }
                }
                if found {
                    continue;
                }
                return Err(match exhausted {
                    Some((max, what)) => Denial {
                        what: format!("{} {target}: {} allows {max} {what} in a run, this would be one more", effect.name(), layer.source),
                        source_: layer.source.clone(),
                        remedy: format!("would allow it with `max: {{{what}: {}}}`", u64::from(max) + 1),
                    },
                    None => deny(effect, Some(target), &layer.source, capability),
                });
            }
        }
        charges.retain(|_, n| *n > 0);
        Ok(Permit { charges })
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
                    rest.iter().all(|layer| namespaces(layer, capability).iter().any(|o| o.is_every() || o == glob || (plain(glob) && o.fits(glob.as_str()))))
                })
                .chain(
                    rest.iter()
                        .flat_map(|layer| namespaces(layer, capability))
                        .filter(|glob| plain(glob) && self.layers.iter().all(|layer| namespaces(layer, capability).iter().any(|o| o.fits(glob.as_str())))),
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

fn plain(glob: &Glob) -> bool {
    !glob.as_str().contains(['*', '?', '[', '{', '\\'])
}

fn needs_grant(effect: &Effect) -> bool {
    match effect {
        Effect::Own(own) => match own {
            Own::Now(_) | Own::Sleep(_) | Own::Step(_) | Own::Note(_) | Own::AskPerson(_) => false,
        },
        Effect::Look(look) => match look {
            Look::Identity(_) | Look::Lease(_) | Look::Leftovers(_) => false,
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::shared::{FluxRef, ObjectRef};
    use crate::effect::{Ask, delete_replicationsources as del, query_objects, query_pvcs, suspend_flux};
    use proptest::prelude::*;

    fn grant(capability: &str, namespaces: &[&str], names: &[&str]) -> Grant {
        let globs = |list: &[&str]| list.iter().map(|g| Glob::new(g).unwrap()).collect::<Vec<_>>();
        Grant { capability: capability.into(), kinds: None, namespaces: globs(namespaces), names: globs(names), max: Max::default() }
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
