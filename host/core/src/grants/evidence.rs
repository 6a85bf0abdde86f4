//! What a run has found out, by its own recorded outcomes: a grant can ask for so much before it holds.

use crate::effect::query_pvcs::{Claims, Phase, Waiting};
use crate::effect::tail_logs::Next;
use crate::effect::{Ask, Effect};
use crate::outcome::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

const CLAIMS: &str = "claims that wait for the driver";
const LINES: &str = "matching log lines";

/// The least that has to be recorded before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Evidence {
    /// Claims that `query-pvcs` found waiting for the driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_claims: Option<u32>,
    /// Lines that `tail-logs` found to match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_lines: Option<u32>,
}

/// What was recorded. The guest's words are no part of it: they are no outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered {
    claims: BTreeSet<String>,
    lines: BTreeSet<String>,
}

impl Gathered {
    /// Takes in an outcome. The same claim, and the same line, counts once.
    pub fn hear(&mut self, effect: &Effect, outcome: &Outcome) {
        let Some(answer) = outcome.ok().and_then(|raw| effect.decode(raw).ok()) else { return };
        if let Some(claims) = Claims::take(answer.clone()) {
            let waits = |waiting: Option<Waiting>| matches!(waiting, Some(Waiting::CsiLocked | Waiting::CsiSlow));
            self.claims.extend(claims.into_iter().filter(|claim| claim.phase == Phase::Pending && waits(claim.waiting)).map(|claim| claim.uid));
        }
        if let Some(page) = Next::take(answer) {
            self.lines.extend(page.lines.iter().filter_map(|line| serde_json::to_vec(line).ok()).map(|line| crate::digest::of_bytes(&line)));
        }
    }
}

impl Evidence {
    /// Both.
    pub fn and(self, other: Self) -> Self {
        Self { pending_claims: self.pending_claims.max(other.pending_claims), log_lines: self.log_lines.max(other.log_lines) }
    }

    /// What is missing still, in words.
    pub fn missing(&self, gathered: &Gathered) -> Option<String> {
        let wanted =
            [(self.pending_claims, gathered.claims.len(), "claims that wait for the driver"), (self.log_lines, gathered.lines.len(), "matching log lines")];
        let missing: Vec<String> = wanted
            .into_iter()
            .filter_map(|(least, found, what)| least.filter(|least| usize::try_from(*least).is_ok_and(|least| found < least)).map(|least| (least, found, what)))
            .map(|(least, found, what)| format!("{least} {what}, and this run has recorded {found}"))
            .collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = [(self.pending_claims, CLAIMS), (self.log_lines, LINES)];
        let said: Vec<String> = wanted.into_iter().filter_map(|(least, what)| least.map(|least| format!("{least} {what}"))).collect();
        to.write_str(&said.join(", "))
    }
}
