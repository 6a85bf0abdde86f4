//! Whether what a guest points at proves "fixed". Judged by the host's own record, never by the guest's words.

use crate::Millis;
use crate::effect::query_pvcs::{Pvc, Waiting};
use crate::effect::tail_logs::{NextPage, Position, Query};
use crate::effect::{Answer, Effect, Read, Write};
use crate::outcome::Outcome;

/// A recorded outcome, as far as a proof needs it.
#[derive(Clone, Debug, Default)]
pub struct Fact {
    /// Its number.
    pub n: u64,
    /// When it was recorded.
    pub at: Millis,
    /// Whether it shows the trouble gone.
    pub shows_absence: bool,
    /// It may have changed the cluster.
    pub changed: bool,
    /// A page of a log: which cursor, and where it ended.
    page: Option<Place>,
    /// Only what is younger was looked at.
    since: Option<Millis>,
}

/// Where a cursor stands after a page, and whether nothing has matched so far.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    query: Query,
    position: Vec<Position>,
    clean: bool,
}

impl Fact {
    /// What an outcome is worth as proof, after the facts `before`.
    pub fn of(n: u64, at: Millis, effect: &Effect, outcome: &Outcome, before: &[Self]) -> Self {
        let changed = match effect {
            // Giving back what was suspended, and asking Flux to look, mend nothing and spoil nothing.
            Effect::Write(
                Write::AcquireLease(_)
                | Write::ReleaseLease(_)
                | Write::Resume(_)
                | Write::Reconcile(_)
                | Write::Suspend(_),
            )
            | Effect::Read(_)
            | Effect::Local(_) => false,
            Effect::Write(Write::Delete(_) | Write::Recreate(_) | Write::Restart(_)) => true,
        };
        let fact = Self { n, at, changed, ..Self::default() };
        let Some(answer) = outcome.ok().and_then(|raw| effect.decode(raw).ok()) else {
            return fact;
        };
        match (answer, effect) {
            (Answer::NextPage(page), Effect::Read(Read::NextPage(next))) => {
                let clean =
                    page.lines.is_empty() && page.unreadable.is_empty() && so_far(next, before);
                // A page over at least one pod, read to its end, in which nothing matched, nor in those before it.
                let shows_absence = clean
                    && !page.pods.is_empty()
                    && !page.more
                    && next.query.pattern.is_some()
                    && next.query.tail_lines.is_none();
                let place = Place { query: next.query.clone(), position: page.position, clean };
                Self { shows_absence, since: next.query.since, page: Some(place), ..fact }
            }
            // A clock that was corrected meanwhile may stand before the time that the restart itself bears.
            (Answer::Restart(restarted), _) => Self { at: at.max(restarted.at), ..fact },
            (Answer::ListPvcs(pvcs), _) => Self { shows_absence: !pvcs.iter().any(stuck), ..fact },
            // mutant no-pods-prove-health: !pods.is_empty() && pods ~> pods
            (Answer::ListPods(pods), _) => Self {
                shows_absence: !pods.is_empty()
                    && pods.iter().all(|p| p.ready || p.phase == "Succeeded"),
                ..fact
            },
            (
                Answer::Now(_)
                | Answer::Sleep(())
                | Answer::Step(())
                | Answer::Note(())
                | Answer::AskUser(_)
                | Answer::GetIdentity(_)
                | Answer::ReviewAccess(_)
                | Answer::RequestToken(_)
                | Answer::CheckPolicies(_)
                | Answer::Lease(_)
                | Answer::FindLeftovers(_)
                | Answer::FindOwners(_)
                | Answer::GetFluxObject(_)
                | Answer::ListSources(_)
                | Answer::ListDestinations(_)
                | Answer::ListSnapshots(_)
                | Answer::FindDriver(_)
                | Answer::ListObjects(_)
                | Answer::GetObject(_)
                | Answer::NextPage(_)
                | Answer::AwaitRollout(_)
                | Answer::AcquireLease(_)
                | Answer::ReleaseLease(())
                | Answer::Suspend(_)
                | Answer::Resume(_)
                | Answer::Reconcile(_)
                | Answer::Delete(_)
                | Answer::Recreate(_),
                _,
            ) => fact,
        }
    }
}

/// Whether the pages of this cursor before this one were clean. A first page has none.
fn so_far(next: &NextPage, before: &[Fact]) -> bool {
    let continues = |place: &Place| place.query == next.query && place.position == next.after;
    next.after.is_empty()
        || before
            .iter()
            .rev()
            .find_map(|f| f.page.as_ref().filter(|p| continues(p)))
            .is_some_and(|p| p.clean)
}

fn stuck(pvc: &Pvc) -> bool {
    matches!(pvc.waiting, Some(Waiting::CsiLocked | Waiting::CsiSlow))
}

/// Whether the facts numbered `proof` prove it; if not, why not.
pub fn holds(facts: &[Fact], proof: &[u64]) -> Result<(), String> {
    if proof.is_empty() {
        return Err("the guest names no proof".into());
    }
    let last_change = facts.iter().filter(|f| f.changed).max_by_key(|f| f.n);
    for n in proof {
        let Some(fact) = facts.iter().find(|f| f.n == *n) else {
            return Err(format!("entry {n}, which the guest names as proof, is not in this run"));
        };
        // mutant stale-read-is-proof: fact.n < ~> fact.n ==
        if let Some(change) = last_change.filter(|c| fact.n < c.n) {
            return Err(format!(
                "entry {n}, which the guest names as proof, is older than the last change (entry {})",
                change.n
            ));
        }
        if !fact.shows_absence {
            return Err(format!(
                "entry {n}, which the guest names as proof, does not show the trouble gone"
            ));
        }
        if let (Some(change), Some(since)) = (last_change, fact.since)
            && since > change.at
        {
            return Err(format!(
                "entry {n}, which the guest names as proof, looks at less than what came since the last change (entry {})",
                change.n
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::effect::TypedCall;
    use crate::effect::shared::ObjectRef;
    use crate::effect::tail_logs::{Line, Page};

    fn fact(n: u64, shows_absence: bool, changed: bool) -> Fact {
        Fact { n, at: n * 1000, shows_absence, changed, ..Fact::default() }
    }

    #[test]
    fn only_a_clean_look_after_the_last_change_proves_it() {
        let facts = [
            fact(1, true, false),
            fact(2, false, true),
            fact(3, false, false),
            fact(4, true, false),
        ];
        assert!(holds(&facts, &[4]).is_ok());
        assert!(holds(&facts, &[]).is_err(), "no proof");
        assert!(holds(&facts, &[1]).is_err(), "before the change");
        assert!(holds(&facts, &[4, 3]).is_err(), "one of them shows nothing");
        assert!(holds(&facts, &[9]).is_err(), "invented");
    }

    /// Reads pages one after the other; `matched` says in which something matched.
    fn pages(since: Option<Millis>, matched: &[bool]) -> Vec<Fact> {
        let mut facts = vec![fact(1, false, true)];
        let mut after = vec![];
        for (i, matched) in matched.iter().enumerate() {
            let deployment = ObjectRef::new("rook-ceph", "x");
            let query = Query {
                deployment,
                container: "c".into(),
                since,
                tail_lines: None,
                limit_bytes: 1,
                pattern: Some("lock".into()),
            };
            let position = vec![Position { pod: "p".into(), timestamp: i.to_string(), ordinal: 1 }];
            let lines = if *matched {
                vec![Line { pod: "p".into(), time: 0, text: "lock".into() }]
            } else {
                vec![]
            };
            let page = Page {
                lines,
                pods: vec!["p".into()],
                unreadable: vec![],
                lines_read: 1,
                more: false,
                newest: None,
                position: position.clone(),
            };
            let effect =
                NextPage { query, after: std::mem::replace(&mut after, position) }.effect();
            let outcome = Outcome::Ok(serde_json::value::to_raw_value(&page).unwrap());
            let n = i as u64 + 2;
            facts.push(Fact::of(n, n * 1000, &effect, &outcome, &facts));
        }
        facts
    }

    #[test]
    fn a_last_page_hides_none_of_those_before_it() {
        assert!(holds(&pages(None, &[false, false]), &[3]).is_ok());
        assert!(holds(&pages(None, &[true, false]), &[3]).is_err());
        assert!(holds(&pages(None, &[true, false, false]), &[4]).is_err());
    }

    #[test]
    fn a_log_is_read_from_the_last_change_on() {
        assert!(holds(&pages(Some(1000), &[false]), &[2]).is_ok());
        assert!(holds(&pages(Some(1001), &[false]), &[2]).is_err());
    }
}
