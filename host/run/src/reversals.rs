//! What a run has to take back before it ends. It knows no capability.

use salve_core::capability::{Pending, Released, Reversal, Target};
use salve_core::journal::{ObservedState, Origin};
use std::sync::Arc;

/// All reversals of a run, in the order in which their writes were sent.
#[derive(Debug, Default)]
pub(crate) struct Reversals {
    all: Vec<Tracked>,
}

#[derive(Debug)]
struct Tracked {
    /// The entry of the write.
    n: u64,
    origin: Origin,
    reversal: Reversal,
    /// What the write was prepared against, while it may still take effect.
    in_doubt: Option<Arc<ObservedState>>,
    /// An attempt without a response may still take effect, whatever later attempts find.
    unanswered: bool,
    status: Status,
}

#[derive(Debug)]
enum Status {
    Open,
    /// The write never took effect.
    Void,
    Released(Released),
}

impl Tracked {
    fn is_open(&self) -> bool {
        matches!(self.status, Status::Open)
    }

    fn is_tried(&self, n: u64, attempt: &[Target]) -> bool {
        let targets = self.reversal.targets();
        self.n == n && self.is_open() && targets.iter().any(|target| is_same(target, attempt))
    }
}

/// What an answer says about the reversals of its write.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// What is in effect, or may still be.
    pub pending: Vec<Pending<Reversal>>,
    /// What is in effect by the answer alone, whatever the attempt was prepared against.
    pub in_effect: Vec<Pending<Reversal>>,
}

/// Returns whether two reversals are of the same function and object. The object's UID and previous
/// value may differ.
fn same_object(one: &Reversal, other: &Reversal) -> bool {
    one.function() == other.function() && one.targets() == other.targets()
}

impl Reversals {
    /// Tracks what an attempt may put into effect, before it is sent. A further attempt may be of
    /// another object, or have another state to restore.
    pub fn track(
        &mut self,
        n: u64,
        origin: Origin,
        attempt: Vec<Pending<Reversal>>,
        observed: &ObservedState,
    ) {
        let observed = Arc::new(observed.clone());
        for Pending { reversal, .. } in attempt {
            let known = self.find(n, &reversal);
            let unanswered = known.as_ref().is_some_and(|known| known.unanswered);
            let in_doubt = Some(observed.clone());
            let tracked =
                Tracked { n, origin, reversal, in_doubt, unanswered, status: Status::Open };
            match known {
                // mutant recreated-object-not-tracked: *known = tracked ~> drop((known, tracked))
                Some(known) if !unanswered || known.reversal == tracked.reversal => {
                    *known = tracked
                }
                Some(_) | None => self.all.push(tracked),
            }
        }
    }

    /// Marks what an attempt tried as unanswered: no response arrived, and it may still take
    /// effect.
    pub fn keep_in_doubt(&mut self, n: u64, attempt: &[Target]) {
        for tracked in self.all.iter_mut().filter(|tracked| tracked.is_tried(n, attempt)) {
            tracked.unanswered = true;
        }
    }

    /// Applies an answer. Of `attempt`, what the answer does not name never took effect.
    pub fn settle(&mut self, n: u64, origin: Origin, attempt: &[Target], answer: Answered) {
        let is_named = |tracked: &Tracked| {
            answer.pending.iter().any(|pending| same_object(&pending.reversal, &tracked.reversal))
        };
        for tracked in self.all.iter_mut().filter(|tracked| tracked.is_tried(n, attempt)) {
            if !tracked.unanswered && !is_named(tracked) {
                tracked.status = Status::Void;
            }
        }
        for Pending { reversal, in_doubt } in answer.pending {
            let is_in_effect =
                answer.in_effect.iter().any(|pending| same_object(&pending.reversal, &reversal));
            match (self.find(n, &reversal), is_in_effect) {
                (Some(known), _) => {
                    known.in_doubt = known.in_doubt.take().filter(|_| in_doubt);
                    // Whatever an earlier attempt looked like, it is in effect.
                    if is_in_effect && matches!(known.status, Status::Void) {
                        known.status = Status::Open;
                    }
                }
                // It was in effect before this write.
                (None, true) => self.all.push(Tracked {
                    n,
                    origin,
                    reversal,
                    in_doubt: None,
                    unanswered: false,
                    status: Status::Open,
                }),
                (None, false) => {}
            }
        }
    }

    /// Returns what is tracked for entry `n` and this object: the same reversal, else the latest
    /// one.
    fn find(&mut self, n: u64, reversal: &Reversal) -> Option<&mut Tracked> {
        let is_of = |tracked: &Tracked| tracked.n == n && same_object(&tracked.reversal, reversal);
        let equal = self.all.iter().rposition(|t| is_of(t) && t.reversal == *reversal);
        let index = equal.or_else(|| self.all.iter().rposition(is_of))?;
        self.all.get_mut(index)
    }

    /// Marks a reversal as performed, also where a later write found the same change in effect.
    pub fn close(&mut self, reversal: &Reversal, released: &Released) {
        let same = |tracked: &&mut Tracked| tracked.is_open() && tracked.reversal == *reversal;
        for tracked in self.all.iter_mut().filter(same) {
            (tracked.status, tracked.in_doubt) = (Status::Released(released.clone()), None);
        }
    }

    /// Returns an open reversal.
    pub fn get(&self, id: u32) -> Option<&Reversal> {
        self.all.get(id as usize).filter(|tracked| tracked.is_open()).map(|t| &t.reversal)
    }

    /// Returns how a reversal was performed.
    pub fn released(&self, id: u32) -> Option<&Released> {
        match &self.all.get(id as usize)?.status {
            Status::Released(released) => Some(released),
            Status::Open | Status::Void => None,
        }
    }

    /// Returns how many reversals were not needed, because someone else took the object over.
    pub fn taken_over(&self) -> usize {
        let is_taken_over = |tracked: &&Tracked| match &tracked.status {
            Status::Released(released) => released.taken_over.is_some(),
            Status::Open | Status::Void => false,
        };
        self.all.iter().filter(is_taken_over).count()
    }

    /// Returns what the write of a reversal was prepared against, if it may still take effect.
    pub fn in_doubt(&self, reversal: &Reversal) -> Option<Arc<ObservedState>> {
        let same = |tracked: &&Tracked| tracked.is_open() && tracked.reversal == *reversal;
        self.all.iter().filter(same).find_map(|tracked| tracked.in_doubt.clone())
    }

    /// Returns the open reversals of writes of the guest, or of the host, newest first.
    pub fn open_from(&self, origin: Origin) -> Vec<u32> {
        self.ids(|tracked| tracked.is_open() && tracked.origin == origin)
    }

    /// Returns the open reversals of entry `n`, newest first.
    pub fn open_of(&self, n: u64) -> Vec<u32> {
        self.ids(|tracked| tracked.is_open() && tracked.n == n)
    }

    /// Returns the open reversals, newest first, each once.
    pub fn pending(&self) -> Vec<Pending<Reversal>> {
        let mut pending: Vec<Pending<Reversal>> = vec![];
        for tracked in self.all.iter().rev().filter(|tracked| tracked.is_open()) {
            if !pending.iter().any(|known| known.reversal == tracked.reversal) {
                let in_doubt = tracked.in_doubt.is_some();
                pending.push(Pending { reversal: tracked.reversal.clone(), in_doubt });
            }
        }
        pending
    }

    fn ids(&self, include: impl Fn(&Tracked) -> bool) -> Vec<u32> {
        let ids = (0..self.all.len()).rev().filter(|i| include(&self.all[*i]));
        ids.map(|i| u32::try_from(i).expect("fewer than 2^32 reversals")).collect()
    }
}

/// Returns whether one of `targets` is this object. A target without a kind is of any kind.
fn is_same(target: &Target, targets: &[Target]) -> bool {
    targets.iter().any(|other| {
        let kind = match (&target.kind, &other.kind) {
            (Some(kind), Some(other)) => kind == other,
            (None, _) | (_, None) => true,
        };
        kind && target.namespace == other.namespace && target.name == other.name
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::capability::suspend_flux::{PreviousSuspend, Resume};
    use salve_core::capability::types::{FluxKind, FluxRef};

    fn resume(name: &str, uid: &str) -> Reversal {
        let (kind, namespace) = (FluxKind::Kustomization, "media".into());
        let target = FluxRef { kind, namespace, name: name.into() };
        Reversal::Resume(Resume { target, uid: uid.into(), previous: PreviousSuspend::Absent })
    }

    fn pending(reversals: &[Reversal], in_doubt: bool) -> Vec<Pending<Reversal>> {
        reversals.iter().map(|r| Pending { reversal: r.clone(), in_doubt }).collect()
    }

    fn targets(reversals: &[Reversal]) -> Vec<Target> {
        reversals.iter().flat_map(Reversal::targets).collect()
    }

    fn observed(at: u64) -> ObservedState {
        ObservedState { objects: vec![], at }
    }

    /// Returns the answer to a write that has these in effect.
    fn in_effect(reversals: &[Reversal]) -> Answered {
        let in_effect = pending(reversals, false);
        Answered { pending: in_effect.clone(), in_effect }
    }

    /// Returns the answer to a write that failed for one object.
    fn failed(reversal: &Reversal, in_doubt: bool) -> Answered {
        Answered { pending: pending(std::slice::from_ref(reversal), in_doubt), in_effect: vec![] }
    }

    /// Tracks an attempt of entry `n`.
    fn track(reversals: &mut Reversals, n: u64, attempt: &[Reversal]) {
        reversals.track(n, Origin::Guest, pending(attempt, true), &observed(n));
    }

    fn settle(reversals: &mut Reversals, n: u64, attempt: &[Reversal], answer: Answered) {
        reversals.settle(n, Origin::Guest, &targets(attempt), answer);
    }

    fn released() -> Released {
        Released { taken_over: None }
    }

    #[test]
    fn an_attempt_is_in_doubt_until_it_is_answered() {
        let (a, b) = (resume("a", "1"), resume("b", "1"));
        let mut all = Reversals::default();
        track(&mut all, 7, &[a.clone(), b.clone()]);
        assert_eq!(all.pending(), pending(&[b.clone(), a.clone()], true), "newest first");
        assert_eq!(all.in_doubt(&a).as_deref(), Some(&observed(7)));
        settle(&mut all, 7, &[a.clone(), b.clone()], in_effect(&[a.clone(), b.clone()]));
        assert_eq!(all.pending(), pending(&[b.clone(), a.clone()], false));
        assert_eq!(all.in_doubt(&a), None);
        assert_eq!((all.open_of(7), all.open_of(8)), (vec![1, 0], vec![]));
    }

    #[test]
    fn what_an_answer_does_not_name_was_never_in_effect() {
        let set = [resume("a", "1"), resume("b", "1")];
        let mut all = Reversals::default();
        track(&mut all, 7, &set);
        settle(&mut all, 7, &set, in_effect(&set[..1]));
        assert_eq!(all.pending(), pending(&set[..1], false));
        assert_eq!((all.get(0), all.get(1)), (Some(&set[0]), None));
        assert_eq!(all.released(1), None);
    }

    #[test]
    fn an_answer_decides_only_on_the_objects_of_its_attempt() {
        let (a, b) = (resume("a", "1"), resume("b", "1"));
        let mut all = Reversals::default();
        track(&mut all, 7, &[a.clone(), b.clone()]);
        track(&mut all, 8, std::slice::from_ref(&a));
        settle(&mut all, 7, std::slice::from_ref(&b), Answered::default());
        assert_eq!(all.open_of(7), [0], "b was tried, a was not");
        assert_eq!(all.open_of(8), [2], "another entry");
    }

    #[test]
    fn a_further_attempt_may_be_of_another_object() {
        let (old, new) = (resume("a", "old"), resume("a", "new"));
        let mut all = Reversals::default();
        track(&mut all, 7, std::slice::from_ref(&old));
        settle(&mut all, 7, std::slice::from_ref(&old), Answered::default());
        assert_eq!(all.pending(), []);
        track(&mut all, 7, std::slice::from_ref(&new));
        assert_eq!(all.pending(), pending(&[new], true));
    }

    #[test]
    fn a_void_attempt_is_in_effect_if_an_answer_says_so() {
        let a = resume("a", "1");
        let set = std::slice::from_ref(&a);
        let mut all = Reversals::default();
        track(&mut all, 7, set);
        settle(&mut all, 7, set, Answered::default());
        settle(&mut all, 7, set, failed(&a, false));
        assert_eq!(all.pending(), [], "it was not sent again");
        settle(&mut all, 7, set, in_effect(set));
        assert_eq!(all.pending(), pending(set, false));
    }

    #[test]
    fn a_failed_object_of_a_set_stays_tracked() {
        let set = [resume("a", "1"), resume("b", "1"), resume("c", "1")];
        for in_doubt in [false, true] {
            let mut all = Reversals::default();
            track(&mut all, 7, &set);
            let mut answer = in_effect(&set[..1]);
            answer.pending.extend(failed(&set[1], in_doubt).pending);
            settle(&mut all, 7, &set, answer);
            let named = all.pending().into_iter().map(|open| (open.reversal, open.in_doubt));
            let expected = [(set[1].clone(), in_doubt), (set[0].clone(), false)];
            assert_eq!(named.collect::<Vec<_>>(), expected);
            assert_eq!(all.in_doubt(&set[1]).is_some(), in_doubt);
        }
    }

    #[test]
    fn what_a_write_finds_in_effect_is_tracked_for_it_too() {
        let a = resume("a", "1");
        let mut all = Reversals::default();
        settle(&mut all, 7, std::slice::from_ref(&a), in_effect(std::slice::from_ref(&a)));
        assert_eq!(all.open_of(7), [0]);
        settle(&mut all, 8, std::slice::from_ref(&a), failed(&a, false));
        assert_eq!(all.open_of(8), Vec::<u32>::new());
    }

    #[test]
    fn releasing_one_of_two_handles_of_an_object_closes_both() {
        let (a, other) = (resume("a", "1"), resume("a", "2"));
        let mut all = Reversals::default();
        for n in [7, 8] {
            track(&mut all, n, std::slice::from_ref(&a));
            settle(&mut all, n, std::slice::from_ref(&a), in_effect(std::slice::from_ref(&a)));
        }
        track(&mut all, 9, std::slice::from_ref(&other));
        assert_eq!(all.pending().len(), 2, "equal ones once");
        all.close(&a, &released());
        assert_eq!((all.released(0), all.released(1)), (Some(&released()), Some(&released())));
        assert_eq!((all.get(0), all.get(1), all.get(2)), (None, None, Some(&other)));
        assert_eq!(all.pending(), pending(&[other], true));
    }

    #[test]
    fn a_void_attempt_is_not_released() {
        let a = resume("a", "1");
        let mut all = Reversals::default();
        track(&mut all, 7, std::slice::from_ref(&a));
        settle(&mut all, 7, std::slice::from_ref(&a), Answered::default());
        all.close(&a, &released());
        assert_eq!((all.get(0), all.released(0)), (None, None));
    }

    #[test]
    fn an_attempt_without_a_response_stays_in_doubt_whatever_the_next_one_finds() {
        let a = resume("a", "1");
        let set = std::slice::from_ref(&a);
        let mut all = Reversals::default();
        track(&mut all, 7, set);
        all.keep_in_doubt(7, &targets(set));
        settle(&mut all, 7, set, Answered::default());
        assert_eq!(all.pending(), pending(set, true));
        track(&mut all, 7, set);
        settle(&mut all, 7, set, Answered::default());
        assert_eq!(all.pending(), pending(set, true));
        settle(&mut all, 7, set, in_effect(set));
        assert_eq!(all.pending(), pending(set, false));
    }

    #[test]
    fn an_attempt_without_a_response_is_tracked_beside_one_of_another_object() {
        let (old, new) = (resume("a", "old"), resume("a", "new"));
        let mut all = Reversals::default();
        track(&mut all, 7, std::slice::from_ref(&old));
        all.keep_in_doubt(7, &targets(std::slice::from_ref(&old)));
        track(&mut all, 7, std::slice::from_ref(&new));
        settle(&mut all, 7, std::slice::from_ref(&new), in_effect(std::slice::from_ref(&new)));
        let named = all.pending().into_iter().map(|open| (open.reversal, open.in_doubt));
        assert_eq!(named.collect::<Vec<_>>(), [(new, false), (old, true)]);
    }

    #[test]
    fn the_host_and_the_guest_have_their_own() {
        let (a, b) = (resume("a", "1"), resume("b", "1"));
        let mut all = Reversals::default();
        track(&mut all, 7, &[a]);
        all.track(8, Origin::Host, pending(&[b], true), &observed(8));
        assert_eq!((all.open_from(Origin::Guest), all.open_from(Origin::Host)), (vec![0], vec![1]));
    }
}
