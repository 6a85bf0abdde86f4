//! Evidence: what a run has journaled, which a grant can require before it applies.

use crate::capability::{Answer, Read};
use crate::glob::Glob;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// The evidence that a grant requires.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct Evidence {
    /// Number of Pending PVCs that `query-pvcs` found waiting for their driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub pending_pvcs: Option<u32>,
    /// Log lines that `tail-logs` found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub log_lines: Vec<LogLines>,
}

/// Log lines that a document describes. The guest's own pattern proves nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLines {
    /// A glob over the whole line, such as `*an operation with the given Volume ID*`.
    #[schemars(length(max = 4096))]
    pub pattern: Glob,
    /// Number of different lines.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100_000))]
    pub min: u32,
}

fn one() -> u32 {
    1
}

/// Something that a read found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EvidenceItem {
    kind: &'static str,
    /// The same item counts once.
    key: String,
    text: String,
}

impl EvidenceItem {
    pub const PENDING_PVC: &'static str = "pendingPvcs";
    pub const LOG_LINE: &'static str = "logLines";

    pub fn new(kind: &'static str, key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kind, key: key.into(), text: text.into() }
    }
}

/// What the reads of a run found. What the guest says is not part of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordedEvidence(BTreeSet<EvidenceItem>);

impl RecordedEvidence {
    pub fn record(&mut self, read: &Read, answer: &Answer) {
        self.0.extend(read.evidence(answer));
    }

    fn count(&self, kind: &str, matches: impl Fn(&str) -> bool) -> usize {
        self.0.iter().filter(|item| item.kind == kind && matches(&item.text)).count()
    }
}

impl Evidence {
    /// Requires both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let log_lines = self.log_lines.into_iter().chain(other.log_lines).collect();
        Self { pending_pvcs: self.pending_pvcs.max(other.pending_pvcs), log_lines }
    }

    /// Returns what is still missing.
    pub fn missing(&self, recorded: &RecordedEvidence) -> Option<String> {
        let pvcs = self.pending_pvcs.map(|min| {
            let found = recorded.count(EvidenceItem::PENDING_PVC, |_| true);
            (min, found, "pendingPvcs".to_owned())
        });
        let lines = self.log_lines.iter().map(|lines| {
            let found = recorded.count(EvidenceItem::LOG_LINE, |text| lines.pattern.matches(text));
            (lines.min, found, lines.describe())
        });
        let required = pvcs.into_iter().chain(lines);
        // mutant evidence-from-guest-claims: found < ~> found >
        let missing: Vec<String> = required
            .filter(|(min, found, _)| usize::try_from(*min).is_ok_and(|min| *found < min))
            .map(|(min, found, what)| format!("{what} ≥ {min}, recorded so far: {found}"))
            .collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }
}

impl LogLines {
    fn describe(&self) -> String {
        format!("log lines matching {:?}", self.pattern.as_str())
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pvcs = self.pending_pvcs.map(|min| format!("pendingPvcs ≥ {min}"));
        let lines =
            self.log_lines.iter().map(|lines| format!("{} ≥ {}", lines.describe(), lines.min));
        f.write_str(&pvcs.into_iter().chain(lines).collect::<Vec<_>>().join(", "))
    }
}
