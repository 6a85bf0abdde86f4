//! What this run holds suspended. The truth about it is here, whatever the guest still remembers.

use salve_core::effect::shared::FluxRef;
use salve_core::effect::suspend_flux::{Resume, Resumed, SuspendOutcome, SuspendResult};
use serde_json::Value;

/// All suspensions of a run, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Suspensions {
    all: Vec<Suspension>,
}

#[derive(Debug)]
struct Suspension {
    /// The number of the effect that made it.
    n: u64,
    release: Resume,
    /// What the suspend was prepared against, as long as nobody knows whether it will yet arrive.
    doubt: Option<Value>,
    end: End,
}

#[derive(Debug)]
enum End {
    Open,
    /// It was never made.
    Void,
    Released(Resumed),
}

impl Suspensions {
    /// Notes one before the request that makes it is sent. One that is prepared anew may be of another object, or
    /// have another state to restore.
    pub fn open(&mut self, n: u64, release: Resume, doubt: Option<Value>) {
        match self.all.iter_mut().find(|s| s.n == n && s.release.target == release.target) {
            // mutant recreated-object-not-tracked: (known) => *known = Suspension { n, release,
            //     doubt, end: End::Open }, ~> (_) => {}
            Some(known) => *known = Suspension { n, release, doubt, end: End::Open },
            None => self.all.push(Suspension { n, release, doubt, end: End::Open }),
        }
    }

    /// Takes in what became of the set of effect `n`, or of the part of it that was tried.
    pub fn settle(&mut self, n: u64, holds: &[SuspendResult]) {
        for hold in holds {
            let known = self.all.iter_mut().find(|s| s.n == n && s.release.target == hold.target);
            match (&hold.outcome, known) {
                (SuspendOutcome::Suspended(_), Some(known)) => {
                    known.doubt = None;
                    // Whatever was thought of an attempt before: it is held.
                    if matches!(known.end, End::Void) {
                        known.end = End::Open;
                    }
                }
                // It was this run's already.
                (SuspendOutcome::Suspended(made), None) => {
                    self.open(
                        n,
                        Resume {
                            target: hold.target.clone(),
                            uid: made.uid.clone(),
                            previous: made.previous,
                        },
                        None,
                    );
                }
                (SuspendOutcome::AlreadySuspended(_) | SuspendOutcome::NotTried, Some(known)) => {
                    known.end = End::Void
                }
                (SuspendOutcome::Failed { doubtful, .. }, Some(known)) => {
                    known.doubt = known.doubt.take().filter(|_| *doubtful)
                }
                (
                    SuspendOutcome::AlreadySuspended(_)
                    | SuspendOutcome::NotTried
                    | SuspendOutcome::Failed { .. },
                    None,
                ) => {}
            }
        }
    }

    /// What an attempt at effect `n` tried and does not stand among `holds` was not applied, and no longer can be.
    pub fn void_others(&mut self, n: u64, tried: &[FluxRef], holds: &[SuspendResult]) {
        let is_void = |target: &FluxRef| {
            tried.contains(target) && !holds.iter().any(|hold| hold.target == *target)
        };
        for one in self.all.iter_mut().filter(|s| s.n == n && is_void(&s.release.target)) {
            one.end = End::Void;
        }
    }

    /// The number of the suspension of this object that effect `n` made.
    pub fn id(&self, n: u64, target: &FluxRef) -> Option<u32> {
        self.all.iter().position(|s| s.n == n && s.release.target == *target).map(number)
    }

    /// What releases it, while it is open.
    pub fn release(&self, id: u32) -> Option<&Resume> {
        self.all.get(id as usize).filter(|s| matches!(s.end, End::Open)).map(|s| &s.release)
    }

    /// What the suspend of this object was prepared against, if it may yet arrive.
    pub fn doubt(&self, release: &Resume) -> Option<&Value> {
        self.all
            .iter()
            .filter(|s| matches!(s.end, End::Open) && s.release == *release)
            .find_map(|s| s.doubt.as_ref())
    }

    /// How it was released, once it was.
    pub fn answer(&self, id: u32) -> Option<&Resumed> {
        match &self.all.get(id as usize)?.end {
            End::Released(answer) => Some(answer),
            End::Open | End::Void => None,
        }
    }

    /// It is released.
    pub fn close(&mut self, release: &Resume, answer: &Resumed) {
        if let Some(known) = self.all.iter_mut().find(|s| {
            matches!(s.end, End::Open)
                && s.release.target == release.target
                && s.release.uid == release.uid
        }) {
            (known.end, known.doubt) = (End::Released(answer.clone()), None);
        }
    }

    /// Those that are open, the newest first.
    pub fn still_open(&self) -> Vec<u32> {
        (0..self.all.len())
            .rev()
            .filter(|i| matches!(self.all[*i].end, End::Open))
            .map(number)
            .collect()
    }

    /// Those of effect `n` that are open, the newest first.
    pub fn open_of(&self, n: u64) -> Vec<u32> {
        self.still_open().into_iter().filter(|id| self.all[*id as usize].n == n).collect()
    }

    /// What would release them, the newest first.
    pub fn releases(&self) -> Vec<Resume> {
        self.still_open().into_iter().filter_map(|id| self.release(id).cloned()).collect()
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a run cannot suspend four thousand million objects")
}
