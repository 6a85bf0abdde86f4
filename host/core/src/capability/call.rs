//! The questions that a capability's module answers about each of its functions.
//!
//! No trait has a default method: a function that leaves a question unanswered does not compile,
//! and the error names the question. The rest of the program asks through the enums of
//! [`effect`](super::effect) and never matches on functions.

use super::{ObjectDetails, Observations, PlannedChanges, Target, Write};
use crate::Millis;
use crate::footprint::{FieldPath, Rule};
use crate::grants::{EvidenceItem, Grant};
use crate::journal::ObservedState;
use crate::outcome::Error;
use crate::problem::{Evaluation, Predicate, Problem};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::fmt::Debug;
use std::time::Duration;

/// A function of a capability: its arguments.
pub trait Call: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync {
    type Answer: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync;

    /// Returns the objects that grants are compared with.
    fn targets(&self) -> Vec<Target>;

    /// Checks names and limits, before anything is decided or sent.
    ///
    /// # Errors
    /// `Invalid`, with what is wrong.
    fn validate(&self) -> Result<(), Error>;
}

/// A call that the run answers without the cluster.
pub trait LocalCall: Call {
    /// Its answer depends on when it is made. A run under a fresh plan reuses the plan's answer.
    fn observes_time(&self) -> bool;

    /// Returns the size of the guest's own text in it, in bytes.
    fn text_bytes(&self) -> usize;
}

/// A call that changes nothing.
pub trait ReadCall: Call {
    /// Returns the requests that it may send. With a grant, for a Role; without one, `*` stands for
    /// the kind that the call names.
    fn requests(grant: Option<&Grant>) -> Vec<Rule>;

    /// Returns how long the call waits by its own arguments.
    fn waits(&self) -> Duration;

    /// See [`LocalCall::observes_time`].
    fn observes_time(&self) -> bool;

    /// Returns why a plan cannot answer it after a planned write, if so.
    fn ends_plan(&self) -> Option<&'static str>;

    /// Applies planned writes to its answer.
    fn overlay(&self, planned: &PlannedChanges, answer: Self::Answer) -> Self::Answer;

    /// Returns what its answer contributes to the evidence that grants may require.
    fn evidence(&self, answer: &Self::Answer) -> Vec<EvidenceItem>;

    /// Returns by what its answer can show a problem.
    fn predicate() -> Predicate;

    /// Returns what its answer shows about a problem of this predicate. `earlier` has what the
    /// earlier answers showed.
    fn evaluate(
        &self,
        problem: &Problem,
        answer: &Self::Answer,
        earlier: &[Evaluation],
    ) -> Evaluation;

    /// Returns the read of the host that shows whether the problem is still there, or came back
    /// after `since`: the first one, or the one that follows the answer `latest`.
    fn verification(
        &self,
        problem: &Problem,
        since: Millis,
        latest: Option<&Self::Answer>,
    ) -> Option<Self>;

    /// Adds what its answer says about objects that a plan would change.
    fn observe(&self, answer: &Self::Answer, observations: &mut Observations);
}

/// A call that changes the cluster.
pub trait WriteCall: Call {
    /// What restores the previous state; [`Permanent`] if nothing does.
    type Reversal: IsReversal;

    // May it?

    /// Returns the requests that it may send. With a grant, for a Role and admission policies;
    /// without one, `*` stands for the kind that the call names.
    fn requests(grant: Option<&Grant>) -> Vec<Rule>;

    /// Returns the fields that this call's patches may set.
    fn fields(&self) -> Vec<FieldPath>;

    /// Returns the fields that any call under this grant may set.
    fn granted_fields(grant: &Grant) -> Vec<FieldPath>;

    /// Returns the key under `max` that counts its targets.
    fn limit() -> Option<Limit>;

    /// A grant's `evidence` applies to it.
    fn requires_evidence(&self) -> bool;

    /// Returns the object that a grant's `labelSelector` and `movers` apply to.
    fn judged_object<'a>(&'a self, target: &Target, observed: &'a [Value]) -> Option<&'a Value>;

    // What would it do?

    /// Predicts its answer in a plan.
    fn predict(&self, observed: &ObservedState, now: Millis) -> Self::Answer;

    /// Records what later reads of a plan must no longer show.
    fn plan(&self, planned: &mut PlannedChanges);

    /// Returns the commands that a person would type instead.
    fn commands(&self, observed: Option<&ObservedState>) -> Vec<String>;

    /// Describes each target, for a plan.
    fn details(
        &self,
        observations: &Observations,
        step: &str,
        observed: Option<&ObservedState>,
    ) -> Vec<ObjectDetails>;

    // Is it what was approved?

    /// Returns how it differs from the approved call, in words.
    fn difference(&self, approved: &Self) -> Option<String>;

    /// It may follow the end of the approved plan.
    fn allowed_after_plan(&self, approved: &[&Write]) -> bool;

    /// An approval binds this object's UID, generation, and spec.
    fn binds(&self, object: &Value) -> bool;

    // How is it sent?

    /// Returns how long the call waits by its own arguments.
    fn waits(&self) -> Duration;

    fn durability(&self) -> Durability;

    /// Returns the time that the request carries, if it must be the same after a crash. `began` is
    /// when the run began, `earlier` the number of equal calls before it.
    fn stamp(&self, began: Millis, earlier: u64) -> Option<Millis>;

    // What was the outcome?

    /// Combines the answers of all attempts. `unfinished` says why the rest has no answer.
    ///
    /// # Errors
    /// The call as a whole failed.
    fn assemble(
        &self,
        parts: Vec<Self::Answer>,
        unfinished: Option<&Unfinished>,
    ) -> Result<Self::Answer, Error>;

    /// Returns the error that makes the whole call fail, so that the run releases it at once.
    fn failure<'a>(&self, answer: &'a Self::Answer) -> Option<&'a Error>;

    fn summary(&self, answer: &Self::Answer) -> Summary;

    /// Returns the objects that their owners may create again.
    fn may_return(&self, answer: &Self::Answer) -> Vec<String>;

    /// Returns when it took effect, by its answer.
    fn applied_at(&self, answer: &Self::Answer) -> Option<Millis>;

    // How is it reversed?

    /// Returns the write with which `salve undo` takes it back after the run.
    fn undone_by() -> Option<super::Function>;

    /// Returns what takes it back. Without an answer: everything that the attempt prepared against
    /// `observed` may put into effect. With one: what is in effect, or may still be.
    fn reversals(
        &self,
        observed: &ObservedState,
        answer: Option<&Self::Answer>,
    ) -> Vec<Pending<Self::Reversal>>;
}

/// A call that restores what a write of the same run changed.
///
/// It needs no grant, limit, approval, or cluster lock, is sent even if the journal fails, and is
/// repeated when in doubt, so sending it twice must be harmless.
pub trait ReversalCall: Call<Answer = Released> {
    /// Returns the requests that it may send. See [`WriteCall::requests`].
    fn requests(grant: Option<&Grant>) -> Vec<Rule>;

    /// See [`WriteCall::fields`].
    fn fields(&self) -> Vec<FieldPath>;

    /// See [`WriteCall::granted_fields`].
    fn granted_fields(grant: &Grant) -> Vec<FieldPath>;

    /// Returns the requests that search the cluster for what runs left behind.
    fn leftover_requests() -> Vec<Rule>;

    /// Returns the commands that a person would type instead.
    fn commands(&self) -> Vec<String>;

    /// Returns the commands that remove what this run marked, once the state is restored.
    fn cleanup_commands(&self) -> Vec<String>;

    /// Returns what is still in effect, for the report: `Kustomization media/plex is still
    /// suspended`. With `in_doubt`, it may be.
    fn still_active(&self, in_doubt: bool) -> String;

    /// Returns what its release may bring back, such as the name of an owner that reconciles again.
    fn brings_back(&self) -> Option<String>;

    /// A plan that ends before it lists it, because the host takes it back in any case.
    fn is_planned(&self) -> bool;
}

/// Whether a write has a reversal, and which function it is.
pub trait IsReversal: Clone + Debug + PartialEq {
    const REVERSED_BY: Option<super::Function>;

    fn into_reversal(self) -> super::Reversal;
}

/// The reversal of a write that has none. It has no value.
#[derive(Clone, Debug, PartialEq)]
pub enum Permanent {}

impl IsReversal for Permanent {
    const REVERSED_BY: Option<super::Function> = None;

    fn into_reversal(self) -> super::Reversal {
        match self {}
    }
}

/// A reversal that a run must perform before it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending<R> {
    pub reversal: R,
    /// The write may or may not be in effect, or may still take effect.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_doubt: bool,
}

/// The answer of every reversal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Someone else changed the object during the run. It was left as they set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over: Option<String>,
}

/// Whether a journal entry must be on disk before its request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Losing the entry would lose a change that must be taken back or must not happen twice.
    Synced,
    /// The request follows from entries that are on disk.
    Derived,
}

/// A key under `max` in a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Plural, as in `max: {deletions: 3}`.
    pub key: &'static str,
    /// Singular, for messages.
    pub noun: &'static str,
}

/// Why part of a write has no answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Unfinished {
    pub error: Error,
    /// At least one request was sent.
    pub sent: bool,
    /// The last request may have been applied.
    pub unknown: bool,
}

/// The outcome of a write in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Summary {
    Ok,
    /// Done except for what the text names.
    Partial(String),
    Failed(String),
}

/// Assembles a set with one result per item, in the order of `items`. `missing` makes the result of
/// an item that no attempt answered.
///
/// # Errors
/// Nothing was sent.
pub fn per_item<T, R>(
    items: &[T],
    parts: Vec<Vec<R>>,
    unfinished: Option<&Unfinished>,
    is_for: impl Fn(&R, &T) -> bool,
    mut missing: impl FnMut(&T, Option<&Unfinished>) -> R,
) -> Result<Vec<R>, Error> {
    if let Some(unfinished) = unfinished.filter(|unfinished| !unfinished.sent) {
        return Err(unfinished.error.clone());
    }
    let mut results: Vec<Option<R>> = parts.into_iter().flatten().map(Some).collect();
    let matches = |result: &Option<R>, item: &T| result.as_ref().is_some_and(|r| is_for(r, item));
    let mut ordered = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        // Almost always in order: looking there first avoids a quadratic search.
        let in_order = results.get(i).is_some_and(|result| matches(result, item)).then_some(i);
        let at = in_order.or_else(|| results.iter().position(|result| matches(result, item)));
        let result = at.and_then(|at| results[at].take());
        ordered.push(result.unwrap_or_else(|| missing(item, unfinished)));
    }
    Ok(ordered)
}

/// Assembles a call on one object, which has at most one answer.
///
/// # Errors
/// There is no answer, or more than one.
pub fn single<R>(mut parts: Vec<R>, unfinished: Option<&Unfinished>) -> Result<R, Error> {
    match (parts.pop(), unfinished) {
        (Some(answer), None) if parts.is_empty() => Ok(answer),
        (_, Some(unfinished)) => Err(unfinished.error.clone()),
        (Some(_), None) => Err(Error::Unavailable("more than one answer".into())),
        (None, None) => Err(Error::Unavailable("no answer".into())),
    }
}
