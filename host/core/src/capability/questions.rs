//! One method per question of [`call`](super::call), which forwards it to the module of the
//! capability.

use super::call::{
    Durability, IsReversal as _, Pending, ReadCall, Released, ReversalCall, Summary, Unfinished,
    WriteCall,
};
use super::effect::{Answer, Effect, Read, Reversal, TypedCall, Write};
use super::{ObjectDetails, Observations, PlannedChanges, Target};
use crate::footprint::FieldPath;
use crate::grants::EvidenceItem;
use crate::journal::ObservedState;
use crate::outcome::Error;
use crate::problem::{Evaluation, Problem};
use crate::{Millis, on_read, on_reversal, on_write};
use serde_json::Value;

/// The answer of this call, wrapped. Exists so that a wrong expression is reported once.
fn wrap<C: TypedCall>(_: &C, answer: C::Answer) -> Answer {
    C::wrap(answer)
}

fn answer_of<'a, C: TypedCall>(_: &C, answer: &'a Answer) -> Result<&'a C::Answer, Error> {
    C::unwrap_ref(answer)
}

impl Read {
    /// See [`ReadCall::ends_plan`].
    pub fn ends_plan(&self) -> Option<&'static str> {
        on_read!(self, |call| call.ends_plan())
    }

    /// See [`ReadCall::overlay`].
    ///
    /// # Errors
    /// The answer is not of this call.
    pub fn overlay(&self, planned: &PlannedChanges, answer: Answer) -> Result<Answer, Error> {
        fn overlaid<C: ReadCall + TypedCall>(
            call: &C,
            planned: &PlannedChanges,
            answer: Answer,
        ) -> Result<Answer, Error> {
            Ok(C::wrap(call.overlay(planned, C::unwrap(answer)?)))
        }
        on_read!(self, |call| overlaid(call, planned, answer))
    }

    /// See [`ReadCall::evidence`].
    pub fn evidence(&self, answer: &Answer) -> Vec<EvidenceItem> {
        on_read!(self, |call| answer_of(call, answer).map(|a| call.evidence(a)).unwrap_or_default())
    }

    /// See [`ReadCall::evaluate`].
    pub fn evaluate(
        &self,
        problem: &Problem,
        answer: &Answer,
        earlier: &[Evaluation],
    ) -> Evaluation {
        on_read!(self, |call| match answer_of(call, answer) {
            Ok(answer) => call.evaluate(problem, answer, earlier),
            Err(error) => Evaluation::incomplete(error.to_string()),
        })
    }

    /// See [`ReadCall::verification`].
    pub fn verification(
        &self,
        problem: &Problem,
        since: Millis,
        latest: Option<&Answer>,
    ) -> Option<Self> {
        on_read!(self, |call| {
            let latest = latest.map(|answer| answer_of(call, answer)).transpose().ok()?;
            call.verification(problem, since, latest).map(Self::from)
        })
    }

    /// See [`ReadCall::observe`].
    pub fn observe(&self, answer: &Answer, observations: &mut Observations) {
        on_read!(self, |call| if let Ok(answer) = answer_of(call, answer) {
            call.observe(answer, observations);
        });
    }
}

impl Write {
    /// See [`WriteCall::fields`].
    pub fn fields(&self) -> Vec<FieldPath> {
        on_write!(self, |call| call.fields())
    }

    /// See [`WriteCall::requires_evidence`].
    pub fn requires_evidence(&self) -> bool {
        on_write!(self, |call| call.requires_evidence())
    }

    /// See [`WriteCall::judged_object`].
    pub fn judged_object<'a>(
        &'a self,
        target: &Target,
        observed: &'a [Value],
    ) -> Option<&'a Value> {
        on_write!(self, |call| call.judged_object(target, observed))
    }

    /// See [`WriteCall::predict`].
    pub fn predict(&self, observed: &ObservedState, now: Millis) -> Answer {
        on_write!(self, |call| wrap(call, call.predict(observed, now)))
    }

    /// See [`WriteCall::plan`].
    pub fn plan(&self, planned: &mut PlannedChanges) {
        on_write!(self, |call| call.plan(planned));
    }

    /// See [`WriteCall::commands`].
    pub fn commands(&self, observed: Option<&ObservedState>) -> Vec<String> {
        on_write!(self, |call| call.commands(observed))
    }

    /// See [`WriteCall::details`].
    pub fn details(
        &self,
        observations: &Observations,
        step: &str,
        observed: Option<&ObservedState>,
    ) -> Vec<ObjectDetails> {
        on_write!(self, |call| call.details(observations, step, observed))
    }

    /// Returns how it differs from the approved write, in words. `replaced` describes a different
    /// function.
    pub fn difference(&self, approved: &Self, replaced: impl FnOnce() -> String) -> Option<String> {
        fn compared<C: WriteCall + TypedCall>(call: &C, approved: &Effect) -> Option<String> {
            call.difference(C::from_effect(approved)?)
        }
        if self.function() != approved.function() {
            return Some(replaced());
        }
        let approved = Effect::Write(approved.clone());
        on_write!(self, |call| compared(call, &approved))
    }

    /// See [`WriteCall::allowed_after_plan`].
    pub fn allowed_after_plan(&self, approved: &[&Write]) -> bool {
        on_write!(self, |call| call.allowed_after_plan(approved))
    }

    /// Returns the targets of a write that has a reversal.
    pub fn reversed_targets(&self) -> Vec<Target> {
        if self.function().reversed_by().is_some() { self.targets() } else { vec![] }
    }

    /// See [`WriteCall::binds`].
    pub fn binds(&self, object: &Value) -> bool {
        on_write!(self, |call| call.binds(object))
    }

    /// See [`WriteCall::durability`].
    pub fn durability(&self) -> Durability {
        on_write!(self, |call| call.durability())
    }

    /// See [`WriteCall::stamp`].
    pub fn stamp(&self, began: Millis, earlier: u64) -> Option<Millis> {
        on_write!(self, |call| call.stamp(began, earlier))
    }

    /// See [`WriteCall::assemble`].
    ///
    /// # Errors
    /// The call as a whole failed, or a part is the answer of another call.
    pub fn assemble(
        &self,
        parts: Vec<Answer>,
        unfinished: Option<&Unfinished>,
    ) -> Result<Answer, Error> {
        fn assembled<C: WriteCall + TypedCall>(
            call: &C,
            parts: Vec<Answer>,
            unfinished: Option<&Unfinished>,
        ) -> Result<Answer, Error> {
            let parts = parts.into_iter().map(C::unwrap).collect::<Result<_, _>>()?;
            call.assemble(parts, unfinished).map(C::wrap)
        }
        on_write!(self, |call| assembled(call, parts, unfinished))
    }

    /// See [`WriteCall::failure`].
    pub fn failure<'a>(&self, answer: &'a Answer) -> Option<&'a Error> {
        on_write!(self, |call| answer_of(call, answer).ok().and_then(|a| call.failure(a)))
    }

    /// See [`WriteCall::summary`].
    pub fn summary(&self, answer: &Answer) -> Summary {
        on_write!(self, |call| answer_of(call, answer)
            .map_or_else(|error| Summary::Failed(error.to_string()), |answer| call.summary(answer)))
    }

    /// See [`WriteCall::may_return`].
    pub fn may_return(&self, answer: &Answer) -> Vec<String> {
        on_write!(self, |call| answer_of(call, answer)
            .map(|answer| call.may_return(answer))
            .unwrap_or_default())
    }

    /// See [`WriteCall::applied_at`].
    pub fn applied_at(&self, answer: &Answer) -> Option<Millis> {
        on_write!(self, |call| answer_of(call, answer).ok().and_then(|a| call.applied_at(a)))
    }

    /// See [`WriteCall::reversals`].
    pub fn reversals(
        &self,
        observed: &ObservedState,
        answer: Option<&Answer>,
    ) -> Vec<Pending<Reversal>> {
        fn reversed<C: WriteCall + TypedCall>(
            call: &C,
            observed: &ObservedState,
            answer: Option<&Answer>,
        ) -> Vec<Pending<Reversal>> {
            // An answer that cannot be read says nothing about what is in effect.
            let answer = answer.map(C::unwrap_ref).transpose().unwrap_or_default();
            call.reversals(observed, answer)
                .into_iter()
                .map(|pending| Pending {
                    reversal: pending.reversal.into_reversal(),
                    in_doubt: pending.in_doubt,
                })
                .collect()
        }
        on_write!(self, |call| reversed(call, observed, answer))
    }
}

impl Reversal {
    /// See [`ReversalCall::fields`].
    pub fn fields(&self) -> Vec<FieldPath> {
        on_reversal!(self, |call| call.fields())
    }

    /// See [`ReversalCall::commands`].
    pub fn commands(&self) -> Vec<String> {
        on_reversal!(self, |call| call.commands())
    }

    /// See [`ReversalCall::cleanup_commands`].
    pub fn cleanup_commands(&self) -> Vec<String> {
        on_reversal!(self, |call| call.cleanup_commands())
    }

    /// See [`ReversalCall::still_active`].
    pub fn still_active(&self, in_doubt: bool) -> String {
        on_reversal!(self, |call| call.still_active(in_doubt))
    }

    /// Returns the answer of a reversal.
    pub fn released<'a>(&self, answer: &'a Answer) -> Option<&'a Released> {
        on_reversal!(self, |call| answer_of(call, answer).ok())
    }

    /// Wraps the answer of a reversal.
    pub fn wrap(&self, released: Released) -> Answer {
        on_reversal!(self, |call| wrap(call, released))
    }

    /// See [`ReversalCall::brings_back`].
    pub fn brings_back(&self) -> Option<String> {
        on_reversal!(self, |call| call.brings_back())
    }

    /// See [`ReversalCall::is_planned`].
    pub fn is_planned(&self) -> bool {
        on_reversal!(self, |call| call.is_planned())
    }
}
