//! Checks whether the entries that a guest cites prove "fixed", by the run's own journal only.

use crate::Millis;
use crate::capability::tail_logs::LogProgress;
use crate::capability::{Answer, Effect};

/// What an answer proves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proof {
    /// It shows that the problem is gone.
    pub shows_absence: bool,
    /// Only what is newer was read.
    pub since: Option<Millis>,
    /// How far a cursor has read.
    pub log: Option<LogProgress>,
}

/// A journaled answer, as far as a proof needs it.
#[derive(Clone, Debug, Default)]
pub struct Fact {
    pub n: u64,
    /// When it was journaled or took effect, whichever is later.
    pub at: Millis,
    /// It may have changed what the problem depends on.
    pub changed: bool,
    pub proof: Proof,
}

impl Fact {
    /// Returns what entry `n` proves, after the facts `earlier`. No answer: the call failed.
    pub fn new(
        n: u64,
        at: Millis,
        effect: &Effect,
        answer: Option<&Answer>,
        earlier: &[Self],
    ) -> Self {
        let fact = Self { n, at, ..Self::default() };
        match (effect, answer) {
            (Effect::Local(_) | Effect::Reversal(_), _) | (Effect::Read(_), None) => fact,
            (Effect::Read(read), Some(answer)) => {
                Self { proof: read.proof(answer, earlier), ..fact }
            }
            (Effect::Write(write), answer) => {
                // A corrected clock may be behind the time that the write itself carries.
                let applied = answer.and_then(|answer| write.applied_at(answer)).unwrap_or(at);
                Self { changed: write.invalidates_proofs(), at: at.max(applied), ..fact }
            }
        }
    }
}

/// Checks that the facts with the numbers `cited` prove it.
///
/// # Errors
/// Why they do not.
pub fn check(facts: &[Fact], cited: &[u64]) -> Result<(), String> {
    if cited.is_empty() {
        return Err("it cites no proof".into());
    }
    let last_change = facts.iter().filter(|fact| fact.changed).max_by_key(|fact| fact.n);
    for n in cited {
        let Some(fact) = facts.iter().find(|fact| fact.n == *n) else {
            return Err(format!("entry {n}, cited as proof, is not in this run"));
        };
        // mutant stale-read-is-proof: fact.n < ~> fact.n ==
        if let Some(change) = last_change.filter(|change| fact.n < change.n) {
            return Err(format!(
                "entry {n}, cited as proof, is older than the last change (entry {})",
                change.n
            ));
        }
        if !fact.proof.shows_absence {
            return Err(format!(
                "entry {n}, cited as proof, does not show that the problem is gone"
            ));
        }
        if let (Some(change), Some(since)) = (last_change, fact.proof.since)
            && since > change.at
        {
            return Err(format!(
                "entry {n}, cited as proof, covers only part of the time since the last change \
                 (entry {})",
                change.n
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::capability::TypedCall;
    use crate::capability::tail_logs::{Line, NextPage, Page, Position, Query, Workload};
    use crate::capability::types::ObjectRef;

    fn fact(n: u64, shows_absence: bool, changed: bool) -> Fact {
        Fact { n, at: n * 1000, changed, proof: Proof { shows_absence, ..Proof::default() } }
    }

    #[test]
    fn only_a_clean_read_after_the_last_change_proves_it() {
        let facts = [
            fact(1, true, false),
            fact(2, false, true),
            fact(3, false, false),
            fact(4, true, false),
        ];
        assert!(check(&facts, &[4]).is_ok());
        assert!(check(&facts, &[]).is_err(), "no proof");
        assert!(check(&facts, &[1]).is_err(), "before the change");
        assert!(check(&facts, &[4, 3]).is_err(), "one of them shows nothing");
        assert!(check(&facts, &[9]).is_err(), "invented");
    }

    /// Reads pages in order; `matched` says which of them have a match.
    fn pages(since: Option<Millis>, matched: &[bool]) -> Vec<Fact> {
        let mut facts = vec![fact(1, false, true)];
        let mut after = vec![];
        for (i, matched) in matched.iter().enumerate() {
            let query = Query {
                workload: Workload::deployment(ObjectRef::new("rook-ceph", "x")),
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
                skipped: vec![],
                lines_read: 1,
                more: false,
                newest: None,
                position: position.clone(),
            };
            let effect =
                NextPage { query, after: std::mem::replace(&mut after, position) }.effect();
            let n = i as u64 + 2;
            facts.push(Fact::new(n, n * 1000, &effect, Some(&NextPage::wrap(page)), &facts));
        }
        facts
    }

    #[test]
    fn a_clean_last_page_does_not_hide_earlier_matches() {
        assert!(check(&pages(None, &[false, false]), &[3]).is_ok());
        assert!(check(&pages(None, &[true, false]), &[3]).is_err());
        assert!(check(&pages(None, &[true, false, false]), &[4]).is_err());
    }

    #[test]
    fn a_page_of_skipped_pods_only_proves_nothing() {
        let query = Query {
            workload: Workload::deployment(ObjectRef::new("rook-ceph", "x")),
            container: "c".into(),
            since: None,
            tail_lines: None,
            limit_bytes: 1,
            pattern: Some("lock".into()),
        };
        let page = |pods: Vec<String>| Page {
            lines: vec![],
            pods,
            unreadable: vec![],
            skipped: vec!["p: not started".into()],
            lines_read: 0,
            more: false,
            newest: None,
            position: vec![],
        };
        let effect = NextPage { query, after: vec![] }.effect();
        let proves =
            |page| Fact::new(1, 1, &effect, Some(&NextPage::wrap(page)), &[]).proof.shows_absence;
        assert!(proves(page(vec!["q".into()])));
        assert!(!proves(page(vec![])));
    }

    #[test]
    fn a_log_must_be_read_from_the_last_change_on() {
        assert!(check(&pages(Some(1000), &[false]), &[2]).is_ok());
        assert!(check(&pages(Some(1001), &[false]), &[2]).is_err());
    }
}
