//! One permission of a document: a capability, which objects, how often, and under which conditions.

use super::{Evidence, Selector};
use crate::effect::query_flux::SubjectKind;
use crate::effect::query_objects::Kind;
use crate::effect::shared::FluxKind;
use crate::effect::{Access, CAPABILITIES, Effect, Target, Write, access_of};
use crate::glob::Glob;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Namespaces. None, for `query-objects` only: objects without one.
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
    /// In words: `at most 1 restart in a run`.
    pub fn words(self) -> impl Iterator<Item = String> {
        let all = [
            (self.deletions, "deletion"),
            (self.suspensions, "suspension"),
            (self.restarts, "restart"),
        ];
        all.into_iter().filter_map(|(max, what)| {
            max.map(|max| {
                format!("at most {max} {what}{} in a run", if max == 1 { "" } else { "s" })
            })
        })
    }
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
    pub(super) fn of(&self, effect: &Effect) -> Option<(u32, &'static str)> {
        let (max, what) = match effect {
            // Who may delete so many may bring so many back.
            // mutant deletions-uncounted: self.deletions ~> None
            Effect::Write(Write::Delete(_) | Write::Recreate(_)) => (self.deletions, "deletions"),
            Effect::Write(Write::Restart(_)) => (self.restarts, "restarts"),
            Effect::Write(Write::Suspend(_)) => (self.suspensions, "suspensions"),
            Effect::Write(
                Write::AcquireLease(_)
                | Write::ReleaseLease(_)
                | Write::Resume(_)
                | Write::Reconcile(_),
            )
            | Effect::Read(_)
            | Effect::Local(_) => (None, ""),
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
        let Some(access_of) = access_of(&self.capability) else {
            let known: Vec<_> = CAPABILITIES
                .iter()
                .filter(|(_, r)| *r != Access::Builtin)
                .map(|(n, _)| *n)
                .collect();
            return Err(format!(
                "there is no capability {:?}; there are {}",
                crate::sanitize::sanitized(&self.capability),
                known.join(", ")
            ));
        };
        if access_of == Access::Builtin {
            return Err("`run` is given to every guest and needs no grant".into());
        }
        if self.capability == "query-objects" && self.kinds.is_none() {
            return Err("`query-objects` needs `kinds`, e.g. [jobs.batch]".into());
        }
        if self.capability != "query-objects" && self.namespaces.is_empty() {
            return Err(format!(
                "`namespaces` is missing: what {} is about lives in namespaces; `[\"*\"]` means all of them",
                self.capability
            ));
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
        let for_touches = [
            (self.label_selector.is_some(), "labelSelector"),
            (self.approval.is_some(), "approval"),
            (self.evidence.is_some(), "evidence"),
        ];
        if let Some((_, key)) =
            for_touches.iter().find(|(given, _)| *given && access_of != Access::Write)
        {
            return Err(format!(
                "`{key}` means something for what changes the cluster only, and {} looks",
                self.capability
            ));
        }
        Ok(())
    }

    /// Whether an object that is about to be changed is as this grant wants it; if not, what is not, and what would fit.
    pub(super) fn matches_object(&self, object: &Value) -> Result<(), (String, String)> {
        if let Some(selector) =
            self.label_selector.as_ref().filter(|selector| !selector.matches(object))
        {
            // Which it bears the guest need not know: a denial is its answer, and it may not be granted to look.
            let word =
                |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let (kind, namespace, name) =
                (word("/kind").to_lowercase(), word("/metadata/namespace"), word("/metadata/name"));
            let matches = format!(
                "a `labelSelector` that fits what `kubectl get {kind} {name} -n {namespace} --show-labels` shows"
            );
            return Err((format!("it does not bear the labels {:?}", selector.as_str()), matches));
        }
        if let Some(movers) = &self.movers {
            // As VolSync spells them: `rsyncTLS` is `rsync-tls`.
            let keys: Vec<String> = object["spec"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, _)| key.to_lowercase())
                .collect();
            let borne: Vec<&str> =
                MOVERS.into_iter().filter(|mover| keys.contains(&mover.replace('-', ""))).collect();
            if borne.is_empty()
                || !borne.iter().all(|mover| movers.iter().any(|granted| granted == mover))
            {
                return Err((
                    format!("its mover is none of {}", movers.join(", ")),
                    format!("`movers: [{}]`", borne.join(", ")),
                ));
            }
        }
        Ok(())
    }

    /// Kinds that could never fit would be a grant that silently grants nothing.
    fn check_kinds(&self) -> Result<(), String> {
        let Some(kinds) = &self.kinds else { return Ok(()) };
        match self.capability.as_str() {
            // mutant secrets-in-generated-role: is_plain ~> is_every
            "query-objects" => kinds.iter().filter(|kind| kind.is_plain()).try_for_each(|kind| {
                match Kind::spelt(kind.as_str()) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(format!("`kinds`: {error}")),
                }
            }),
            "query-flux" | "suspend-flux" | "reconcile-flux" => {
                let subjects: &[SubjectKind] =
                    if self.capability == "query-flux" { &SubjectKind::ALL } else { &[] };
                let words: Vec<_> = FluxKind::ALL
                    .iter()
                    .map(|k| k.word())
                    .chain(subjects.iter().map(|k| k.word()))
                    .collect();
                match kinds.iter().find(|glob| !words.iter().any(|w| glob.matches(w))) {
                    Some(odd) => Err(format!(
                        "no kind is called {:?}; there are {}",
                        crate::sanitize::sanitized(odd.as_str()),
                        words.join(", ")
                    )),
                    None => Ok(()),
                }
            }
            other => Err(format!("`kinds` means nothing for {other}")),
        }
    }

    pub(super) fn matches(&self, capability: &str, target: &Target) -> bool {
        let kind = match (&self.kinds, &target.kind) {
            (None, _) => capability != "query-objects",
            (Some(kinds), Some(kind)) => kinds.iter().any(|g| g.matches(kind)),
            (Some(_), None) => true,
        };
        let namespace = match &target.namespace {
            Some(ns) => self.namespaces.iter().any(|g| g.matches(ns)),
            None => self.namespaces.is_empty(),
        };
        let name = match &target.name {
            Some(name) => self.names.iter().any(|g| g.matches(name)),
            None => is_every(&self.names),
        };
        // mutant namespace-not-compared: namespace && name ~> name
        self.capability == capability && kind && namespace && name
    }
}

/// The movers of VolSync, as grants spell them.
pub const MOVERS: [&str; 7] =
    ["restic", "rclone", "rsync", "rsync-tls", "syncthing", "kopia", "external"];
