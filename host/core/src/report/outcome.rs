//! What a touch came to, in a word or a sentence.

use crate::effect::delete_replicationsources::{
    Creation, CreationOutcome, Deletion, DeletionOutcome,
};
use crate::effect::suspend_flux::{self, SuspendOutcome, SuspendResult};
use crate::effect::{Answer, Effect};
use crate::outcome::Outcome;

/// `ok`, or what is to be said of it.
pub(super) fn word(effect: &Effect, outcome: &Outcome) -> String {
    match outcome {
        // A set that was answered is not yet a set that is gone.
        Outcome::Ok(raw) => match effect.decode(raw) {
            Ok(Answer::Delete(deletions)) => gone(&deletions),
            Ok(Answer::Suspend(holds)) => held(&holds),
            Ok(Answer::Recreate(made)) => made_anew(&made),
            Ok(_) | Err(_) => "ok".into(),
        },
        Outcome::Error(error) => error.to_string(),
    }
}

fn held(holds: &[SuspendResult]) -> String {
    if let Some(error) = suspend_flux::failure(holds) {
        return error.to_string();
    }
    let mut alone = holds.iter().filter_map(|hold| match &hold.outcome {
        SuspendOutcome::AlreadySuspended(why) => {
            Some(format!("{} was left alone: {why}", hold.target))
        }
        SuspendOutcome::Suspended(_) | SuspendOutcome::Failed { .. } | SuspendOutcome::NotTried => {
            None
        }
    });
    alone.next().unwrap_or_else(|| "ok".into())
}

fn made_anew(made: &[Creation]) -> String {
    let mut others = made.iter().filter(|one| one.outcome != CreationOutcome::Created);
    let Some(first) = others.next() else { return "ok".into() };
    let why = first.message.as_deref().unwrap_or("left alone");
    format!("{} of {} made; {}: {why}", made.len() - 1 - others.count(), made.len(), first.object)
}

fn gone(deletions: &[Deletion]) -> String {
    let mut others = deletions.iter().filter_map(|deletion| {
        let why = match deletion.outcome {
            DeletionOutcome::Deleted | DeletionOutcome::AlreadyGone => return None,
            DeletionOutcome::Replaced => "another object bears its name now",
            DeletionOutcome::Changed => "its spec changed meanwhile",
            DeletionOutcome::Rejected => "refused",
            DeletionOutcome::Unknown => "no answer came: it may be gone",
        };
        Some(format!("{}: {}", deletion.object, deletion.message.as_deref().unwrap_or(why)))
    });
    let Some(first) = others.next() else { return "ok".into() };
    format!("{} of {} deleted; {first}", deletions.len() - 1 - others.count(), deletions.len())
}
