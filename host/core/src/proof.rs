//! Whether what a guest points at proves "fixed". Judged by the host's own record, never by the guest's words.

use crate::effect::query_pvcs::{Claim, Waiting};
use crate::effect::{Answer, Effect, Touch};
use crate::outcome::Outcome;

/// A recorded outcome, as far as a proof needs it.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Its number.
    pub n: u64,
    /// Whether it shows the trouble gone.
    pub shows_absence: bool,
    /// It may have changed the cluster.
    pub changed: bool,
}

impl Fact {
    /// What an outcome is worth as proof.
    pub fn of(n: u64, effect: &Effect, outcome: &Outcome) -> Self {
        let changed = match effect {
            // Giving back what was suspended, and asking Flux to look, mend nothing and spoil nothing.
            Effect::Touch(Touch::Resume(_) | Touch::Reconcile(_) | Touch::Suspend(_)) | Effect::Look(_) | Effect::Own(_) => false,
            Effect::Touch(Touch::Delete(_) | Touch::Restart(_)) => true,
        };
        let shows_absence = outcome.ok().and_then(|raw| effect.decode(raw).ok()).is_some_and(|answer| match answer {
            // A page over at least one pod, read to its end, in which nothing matched.
            Answer::LogPage(page) => !page.pods.is_empty() && page.unread.is_empty() && !page.more && page.lines.is_empty() && searched(effect),
            Answer::Claims(claims) => !claims.iter().any(stuck),
            Answer::Pods(pods) => !pods.is_empty() && pods.iter().all(|p| p.ready || p.phase == "Succeeded"),
            Answer::AwaitRollout(rollout) => rollout.done,
            Answer::Now(_)
            | Answer::Sleep(())
            | Answer::Step(())
            | Answer::Note(())
            | Answer::AskPerson(_)
            | Answer::Identity(_)
            | Answer::Leftovers(_)
            | Answer::FluxOwners(_)
            | Answer::FluxGet(_)
            | Answer::Sources(_)
            | Answer::Destinations(_)
            | Answer::Snapshots(_)
            | Answer::FindDriver(_)
            | Answer::ListObjects(_)
            | Answer::GetObject(_)
            | Answer::Suspend(_)
            | Answer::Resume(_)
            | Answer::Reconcile(_)
            | Answer::Delete(_)
            | Answer::Restart(_) => false,
        });
        Self { n, shows_absence, changed }
    }
}

fn searched(effect: &Effect) -> bool {
    matches!(effect, Effect::Look(crate::effect::Look::LogPage(next)) if next.query.pattern.is_some())
}

fn stuck(claim: &Claim) -> bool {
    matches!(claim.waiting, Some(Waiting::CsiLocked | Waiting::CsiSlow))
}

/// Whether the facts numbered `proof` prove it; if not, why not.
pub fn holds(facts: &[Fact], proof: &[u64]) -> Result<(), String> {
    if proof.is_empty() {
        return Err("the guest names no proof".into());
    }
    let last_change = facts.iter().filter(|f| f.changed).map(|f| f.n).max().unwrap_or(0);
    for n in proof {
        let Some(fact) = facts.iter().find(|f| f.n == *n) else {
            return Err(format!("entry {n}, which the guest names as proof, is not in this run"));
        };
        if fact.n < last_change {
            return Err(format!("entry {n}, which the guest names as proof, is older than the last change (entry {last_change})"));
        }
        if !fact.shows_absence {
            return Err(format!("entry {n}, which the guest names as proof, does not show the trouble gone"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(n: u64, shows_absence: bool, changed: bool) -> Fact {
        Fact { n, shows_absence, changed }
    }

    #[test]
    fn only_a_clean_look_after_the_last_change_proves_it() {
        let facts = [fact(1, true, false), fact(2, false, true), fact(3, false, false), fact(4, true, false)];
        assert!(holds(&facts, &[4]).is_ok());
        assert!(holds(&facts, &[]).is_err(), "no proof");
        assert!(holds(&facts, &[1]).is_err(), "before the change");
        assert!(holds(&facts, &[4, 3]).is_err(), "one of them shows nothing");
        assert!(holds(&facts, &[9]).is_err(), "invented");
    }
}
