//! What a touch came to, in a word or a sentence.

use crate::effect::delete_replicationsources::{Deletion, End, Made, MadeEnd};
use crate::effect::suspend_flux::{self, Hold, HoldEnd};
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

fn held(holds: &[Hold]) -> String {
    if let Some(error) = suspend_flux::failure(holds) {
        return error.to_string();
    }
    let mut alone = holds.iter().filter_map(|hold| match &hold.end {
        HoldEnd::LeftAlone(why) => Some(format!("{} was left alone: {why}", hold.target)),
        HoldEnd::Suspended(_) | HoldEnd::Failed { .. } | HoldEnd::Untried => None,
    });
    alone.next().unwrap_or_else(|| "ok".into())
}

fn made_anew(made: &[Made]) -> String {
    let mut others = made.iter().filter(|one| one.end != MadeEnd::Made);
    let Some(first) = others.next() else { return "ok".into() };
    let why = first.message.as_deref().unwrap_or("left alone");
    format!("{} of {} made; {}: {why}", made.len() - 1 - others.count(), made.len(), first.object)
}

fn gone(deletions: &[Deletion]) -> String {
    let mut others = deletions.iter().filter_map(|deletion| {
        let why = match deletion.end {
            End::Deleted | End::AlreadyGone => return None,
            End::Replaced => "another object bears its name now",
            End::Changed => "its spec changed meanwhile",
            End::Refused => "refused",
            End::Unknown => "no answer came: it may be gone",
        };
        Some(format!("{}: {}", deletion.object, deletion.message.as_deref().unwrap_or(why)))
    });
    let Some(first) = others.next() else { return "ok".into() };
    format!("{} of {} deleted; {first}", deletions.len() - 1 - others.count(), deletions.len())
}
