//! `tail-logs`: reads the logs of one container in all pods of a workload, in bounded pages.
//!
//! A cursor is its query and its position. Both are in the effect, so a page can be requested again
//! with the journal alone, and the host keeps no other state.

use super::call::{Call, ReadCall};
use super::types::ObjectRef;
use super::{GrantKinds, GrantShape, Observations, PlannedChanges, Target};
use crate::footprint::{Rule, Scope, Verb};
use crate::grants::{EvidenceItem, Grant};
use crate::problem::{Affected, Evaluation, Predicate, Problem};
use crate::{Millis, name, outcome::Error};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A kind of workload whose pods have logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadKind {
    Deployment,
    DaemonSet,
    StatefulSet,
    Job,
    Pod,
}

impl WorkloadKind {
    pub const ALL: [Self; 5] =
        [Self::Deployment, Self::DaemonSet, Self::StatefulSet, Self::Job, Self::Pod];
    /// Returns the kind, as in manifests.
    pub fn label(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::DaemonSet => "DaemonSet",
            Self::StatefulSet => "StatefulSet",
            Self::Job => "Job",
            Self::Pod => "Pod",
        }
    }
    /// Returns the API group; empty for core.
    pub fn group(self) -> &'static str {
        match self {
            Self::Deployment | Self::DaemonSet | Self::StatefulSet => "apps",
            Self::Job => "batch",
            Self::Pod => "",
        }
    }
    /// Returns the plural.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::DaemonSet => "daemonsets",
            Self::StatefulSet => "statefulsets",
            Self::Job => "jobs",
            Self::Pod => "pods",
        }
    }
    /// Returns `resource.group`, as grants write it.
    pub fn resource(self) -> String {
        match self.group() {
            "" => self.plural().into(),
            group => format!("{}.{group}", self.plural()),
        }
    }
}

/// A workload, or a single pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    pub kind: WorkloadKind,
    pub object: ObjectRef,
}

impl Workload {
    pub fn new(kind: WorkloadKind, object: ObjectRef) -> Self {
        Self { kind, object }
    }

    pub fn deployment(object: ObjectRef) -> Self {
        Self::new(WorkloadKind::Deployment, object)
    }
}

/// What a cursor reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Query {
    pub workload: Workload,
    pub container: String,
    pub since: Option<Millis>,
    /// Maximum number of lines from the end of each log, for the first page.
    pub tail_lines: Option<u32>,
    /// Maximum number of bytes per pod and page.
    pub limit_bytes: u32,
    /// A regular expression; none for every line.
    pub pattern: Option<String>,
}

impl Query {
    /// Checks names and limits. The pattern is compiled where the logs are read.
    pub fn check(&self) -> Result<(), Error> {
        self.workload.object.validate()?;
        name::namespace(&self.container)?;
        if !(1..=16 << 20).contains(&self.limit_bytes) {
            return Err(Error::Invalid(format!("limit-bytes {}: 1 to 16777216", self.limit_bytes)));
        }
        if self.pattern.as_ref().is_some_and(|p| p.len() > 4096) {
            return Err(Error::Invalid("a pattern of more than 4096 bytes".into()));
        }
        Ok(())
    }
}

/// How far one pod's log has been read. The API server keeps whole seconds in `sinceTime`, so lines
/// are counted from the latest timestamp on. Lines that follow may have an earlier time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    pub pod: String,
    /// The latest timestamp read, as the API server wrote it (RFC 3339 with nanoseconds).
    pub timestamp: String,
    /// Number of lines read since the first line with that timestamp, including it.
    pub ordinal: u32,
}

/// Reads the next page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NextPage {
    pub query: Query,
    /// `position` of the previous page; empty for the first.
    pub after: Vec<Position>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub pod: String,
    pub time: Millis,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    pub lines: Vec<Line>,
    /// The pods that were read.
    pub pods: Vec<String>,
    /// Pods that could not be read, each with the reason.
    pub unreadable: Vec<String>,
    /// Pods that need not be read, each with the reason: the container has not started, or the pod
    /// should have ended and its node does not respond. They are neither read nor unreadable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    /// Lines read, matching or not.
    pub lines_read: u64,
    /// More can be read right away.
    pub more: bool,
    /// Time of the newest line read, matching or not.
    pub newest: Option<Millis>,
    /// Where the next page starts.
    pub position: Vec<Position>,
}

/// Where the next page of a log starts.
#[derive(Clone, Debug, PartialEq)]
pub struct LogPosition {
    query: Query,
    position: Vec<Position>,
}

/// Maximum number of bytes per pod and page of the host's own reads.
const HOST_PAGE_BYTES: u32 = 8 << 20;
/// How much of a log line is reported.
const MAX_LINE_CHARS: usize = 200;

impl NextPage {
    /// Returns what the pages before this one show; the first page has none.
    ///
    /// # Errors
    /// They were not read from the first one on.
    fn earlier_pages(&self, earlier: &[Evaluation]) -> Result<Evaluation, &'static str> {
        if self.after.is_empty() {
            return Ok(Evaluation::default());
        }
        let precedes = |page: &&Evaluation| {
            let is_before =
                |log: &LogPosition| log.query == self.query && log.position == self.after;
            page.log.as_ref().is_some_and(is_before)
        };
        let before = earlier.iter().rev().find(precedes);
        before.cloned().ok_or("the pages before it were not read by this run")
    }

    /// Returns why an answer proves nothing.
    fn incomplete(&self, problem: &Problem, answer: &Page) -> Option<String> {
        let Query { workload: Workload { kind, object }, container, tail_lines, .. } = &self.query;
        let read = &problem.read;
        if !read.covers(&object.namespace, &object.name) {
            let kind = kind.label();
            return Some(format!("{kind} {object} is not in the scope of the problem"));
        }
        if !read.covers_container(container) {
            return Some(format!("container {container} is not in the scope of the problem"));
        }
        if tail_lines.is_some() {
            return Some("only the end of the log was read (tail-lines)".into());
        }
        if !answer.unreadable.is_empty() {
            let unreadable = answer.unreadable.join("; ");
            return Some(format!("the logs of some pods could not be read: {unreadable}"));
        }
        None
    }
}

pub fn grant_shape() -> GrantShape {
    GrantShape {
        kinds: GrantKinds::Known(
            WorkloadKind::ALL.into_iter().map(WorkloadKind::resource).collect(),
        ),
        namespaced: true,
        host_only: vec![
            "only log lines that match the guest's pattern are returned, up to its byte limit",
        ],
        ..GrantShape::default()
    }
}

impl Call for NextPage {
    type Answer = Page;
    fn targets(&self) -> Vec<Target> {
        let Workload { kind, object } = &self.query.workload;
        vec![object.target().with_kind(kind.resource(), kind.label())]
    }
    fn validate(&self) -> Result<(), Error> {
        self.query.check()
    }
}

impl ReadCall for NextPage {
    fn requests(grant: Option<&Grant>) -> Vec<Rule> {
        let kinds = grant.and_then(|grant| grant.kinds.as_deref());
        let workloads = WorkloadKind::ALL
            .into_iter()
            .filter(|kind| GrantKinds::covers(kinds, &kind.resource()))
            .map(|kind| Rule::new(Verb::Get, kind.group(), kind.plural(), Scope::Target));
        let pods = [
            Rule::new(Verb::List, "", "pods", Scope::Effect),
            Rule::new(Verb::Get, "", "pods", Scope::Effect).with_subresource("log"),
        ];
        workloads.chain(pods).collect()
    }
    fn waits(&self) -> Duration {
        Duration::ZERO
    }
    fn observes_time(&self) -> bool {
        true
    }
    fn ends_plan(&self) -> Option<&'static str> {
        None
    }
    fn overlay(&self, _: &PlannedChanges, answer: Page) -> Page {
        answer
    }
    fn evidence(&self, answer: &Page) -> Vec<EvidenceItem> {
        let item = |line: &Line| {
            let key = format!("{} {}", line.pod, line.time);
            EvidenceItem::new(EvidenceItem::LOG_LINE, key, line.text.clone())
        };
        answer.lines.iter().map(item).collect()
    }
    fn predicate() -> Predicate {
        Predicate::Pattern
    }
    fn evaluate(&self, problem: &Problem, answer: &Page, earlier: &[Evaluation]) -> Evaluation {
        let before = match self.earlier_pages(earlier) {
            Ok(before) => before,
            Err(why) => return Evaluation::incomplete(why),
        };
        let Workload { kind, object } = &self.query.workload;
        let id = format!("{} {object}", kind.label());
        let mut evaluation = Evaluation {
            incomplete: before.incomplete.or_else(|| self.incomplete(problem, answer)),
            more: answer.more,
            affected: before.affected,
            log: Some(LogPosition { query: self.query.clone(), position: answer.position.clone() }),
            ..Evaluation::default()
        };
        // mutant guests-pattern-proves: pattern.matches(&line.text) ~>
        //     (pattern.matches(&line.text) || self.query.pattern.is_some())
        let shows = |line: &&Line| {
            problem.pattern.as_ref().is_some_and(|pattern| pattern.matches(&line.text))
        };
        if let Some(line) = answer.lines.iter().find(shows) {
            let text: String = line.text.chars().take(MAX_LINE_CHARS).collect();
            let affected = Affected::new(kind.label(), object, format!("logged {text:?}"));
            evaluation.affected.entry(id.clone()).or_insert(affected);
        }
        // At least one log was read to its end without a match.
        // mutant no-pods-prove-health: !answer.pods.is_empty() && ~>
        if !answer.pods.is_empty() && !answer.more && evaluation.affected.is_empty() {
            evaluation.healthy.insert(id);
        }
        evaluation
    }
    fn verification(
        &self,
        problem: &Problem,
        since: Millis,
        latest: Option<&Page>,
    ) -> Option<Self> {
        let query = match latest {
            Some(_) => self.query.clone(),
            None => Query {
                since: Some(since),
                tail_lines: None,
                limit_bytes: HOST_PAGE_BYTES,
                pattern: problem.pattern.as_ref().map(|pattern| pattern.as_str().to_owned()),
                ..self.query.clone()
            },
        };
        let after = latest.map(|page| page.position.clone()).unwrap_or_default();
        Some(Self { query, after })
    }
    fn observe(&self, _: &Page, _: &mut Observations) {}
}
