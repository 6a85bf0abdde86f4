//! What a run has found out, by its own recorded outcomes: a grant can ask for so much before it holds.

use crate::Millis;
use crate::effect::query_pvcs::{ListPvcs, Phase, Waiting};
use crate::effect::tail_logs::NextPage;
use crate::effect::{Effect, TypedCall};
use crate::glob::Glob;
use crate::outcome::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

const CLAIMS: &str = "claims that wait for the driver";

/// The least that has to be recorded before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Evidence {
    /// Claims that `query-pvcs` found waiting for the driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_claims: Option<u32>,
    /// Lines that `tail-logs` found, of each of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_lines: Vec<LogLines>,
}

/// Lines of a log. What they are like the document says: what a guest looks for is its own choice, and no evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLines {
    /// A pattern over the whole line.
    pub like: Glob,
    /// So many of them.
    #[serde(default = "one")]
    pub least: u32,
}

fn one() -> u32 {
    1
}

/// What was recorded. The guest's words are no part of it: they are no outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordedEvidence {
    pvcs: BTreeSet<String>,
    /// Pod, time and text.
    lines: BTreeSet<(String, Millis, String)>,
}

impl RecordedEvidence {
    /// Takes in an outcome. The same claim, and the same line, counts once.
    pub fn apply(&mut self, effect: &Effect, outcome: &Outcome) {
        let Some(answer) = outcome.ok().and_then(|raw| effect.decode(raw).ok()) else { return };
        if let Some(pvcs) = ListPvcs::take(answer.clone()) {
            let waits = |waiting: Option<Waiting>| {
                matches!(waiting, Some(Waiting::CsiLocked | Waiting::CsiSlow))
            };
            self.pvcs.extend(
                pvcs.into_iter()
                    .filter(|pvc| pvc.phase == Phase::Pending && waits(pvc.waiting))
                    .map(|pvc| pvc.uid),
            );
        }
        if let Some(page) = NextPage::take(answer) {
            self.lines.extend(page.lines.into_iter().map(|line| (line.pod, line.time, line.text)));
        }
    }
}

impl Evidence {
    /// Both.
    pub fn and(self, other: Self) -> Self {
        let log_lines = self.log_lines.into_iter().chain(other.log_lines).collect();
        Self { pending_claims: self.pending_claims.max(other.pending_claims), log_lines }
    }

    /// What is missing still, in words.
    pub fn missing(&self, evidence: &RecordedEvidence) -> Option<String> {
        let pvcs = self.pending_claims.map(|least| (least, evidence.pvcs.len(), CLAIMS.to_owned()));
        let lines = self.log_lines.iter().map(|lines| {
            let found =
                evidence.lines.iter().filter(|(_, _, text)| lines.like.matches(text)).count();
            (lines.least, found, lines.words())
        });
        let wanted = pvcs.into_iter().chain(lines);
        // mutant evidence-from-guest-claims: found < ~> found >
        let missing: Vec<String> = wanted
            .filter(|(least, found, _)| usize::try_from(*least).is_ok_and(|least| *found < least))
            .map(|(least, found, what)| {
                format!("{least} {what}, and this run has recorded {found}")
            })
            .collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }
}

impl LogLines {
    fn words(&self) -> String {
        format!("log lines like {:?}", self.like.as_str())
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pvcs = self.pending_claims.map(|least| format!("{least} {CLAIMS}"));
        let said: Vec<String> = pvcs
            .into_iter()
            .chain(self.log_lines.iter().map(|lines| format!("{} {}", lines.least, lines.words())))
            .collect();
        to.write_str(&said.join(", "))
    }
}
