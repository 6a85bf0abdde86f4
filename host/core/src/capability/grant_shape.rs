//! What a grant of a capability may say, and what only part of the enforcement can check.

use crate::footprint::Verb;
use crate::glob::Glob;

/// What a grant of a capability may say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GrantShape {
    pub kinds: GrantKinds,
    /// `namespaces` is required. Without it, the grant is for cluster-scoped objects.
    pub namespaced: bool,
    /// `fields` is required.
    pub fields: bool,
    /// `movers` is allowed.
    pub movers: bool,
    /// What only the host enforces, one sentence each.
    pub host_only: Vec<&'static str>,
    /// What the Role alone would allow.
    pub role_excess: Vec<Excess>,
    /// What the Role allows despite its admission policies.
    pub policy_excess: Vec<Excess>,
}

/// Whether a grant has `kinds`, written `resource.group` (core kinds: `resource`).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum GrantKinds {
    #[default]
    None,
    /// Optional, and one of these.
    Known(Vec<String>),
    /// Required, any kind except Secrets.
    Any,
    /// Required, any kind except Secrets, and by name: a pattern would also grant what is installed
    /// later.
    Named,
}

impl GrantKinds {
    /// Returns whether a grant must have `kinds`.
    pub fn is_required(&self) -> bool {
        match self {
            Self::Any | Self::Named => true,
            Self::None | Self::Known(_) => false,
        }
    }

    /// Returns whether a grant for `granted` kinds covers a kind.
    pub fn covers(granted: Option<&[Glob]>, kind: &str) -> bool {
        granted.is_none_or(|globs| globs.iter().any(|glob| glob.matches(kind)))
    }
}

/// Something that a credential could do although no run does it.
#[derive(Clone, Debug, PartialEq)]
pub struct Excess {
    pub group: &'static str,
    /// The plural; `*` for the kinds that grants name.
    pub resource: &'static str,
    pub verb: Verb,
    /// Without a subject: `delete any pod`.
    pub text: String,
}

impl Excess {
    pub fn new(
        verb: Verb,
        group: &'static str,
        resource: &'static str,
        text: impl Into<String>,
    ) -> Self {
        Self { group, resource, verb, text: text.into() }
    }
}
