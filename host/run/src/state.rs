//! What a run's entries come to. The same fold, whether they were written just now or are read from its file: so a
//! run that is taken up again knows what it knew.

use crate::suspensions::Suspensions;
use salve_core::effect::host::Acquired;
use salve_core::effect::shared::FluxRef;
use salve_core::effect::suspend_flux::Resume;
use salve_core::effect::{Answer, Effect, Local, Read, Write};
use salve_core::grants::Denial;
use salve_core::journal::{Closed, Done, Entry, GuestExit, Opened, Origin, RunResult};
use salve_core::outcome::{Error, Outcome};
use salve_core::plan::{self, Overlay};
use salve_core::proof::Fact;
use std::collections::{BTreeMap, HashMap};

/// What is known of a run.
#[derive(Debug, Default)]
pub(crate) struct RunState {
    /// Numbers given out.
    pub n: u64,
    /// The number of the guest's last outcome.
    pub last: u64,
    /// What its outcomes are worth as proof.
    pub facts: Vec<Fact>,
    /// What it holds suspended.
    pub suspensions: Suspensions,
    /// What a plan has recorded.
    pub overlay: Overlay,
    /// The step that was opened last.
    pub step: Option<String>,
    /// How much of the record the guest has taken.
    pub bytes: usize,
    /// What the grants refused.
    pub denials: Vec<Denial>,
    /// Writes that were opened and have no outcome: the last attempt of each.
    pub in_doubt: BTreeMap<u64, Opened>,
    /// The cluster's Lease, while the run has it.
    pub lease: Option<Acquired>,
    /// Where the Lease was asked for, while it is not known whether the run has it.
    pub lease_asked: Option<String>,
    /// Whether a request for it may have been applied unheard.
    lease_lost: bool,
    /// How the guest's part ended, once it did.
    pub ended: Option<GuestExit>,
    /// The verdict, once there is one.
    pub closing: Option<RunResult>,
    /// Each write as it was asked for.
    whole: HashMap<u64, Effect>,
    /// Its own id.
    run: String,
    reconciled: HashMap<FluxRef, u64>,
}

impl RunState {
    /// Takes in the next entry.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Header(header) => self.run.clone_from(&header.run),
            Entry::Approved(_) | Entry::Recovery(_) => {}
            Entry::Opened(opened) => self.opened(opened),
            Entry::Closed(closed) => self.closed(closed),
            Entry::Done(done) => self.done(done),
            Entry::Planned(done) => {
                if let Effect::Write(write) = &done.effect {
                    self.overlay.record(write);
                }
                self.done(done);
            }
            Entry::GuestExited(ended) => self.ended = Some(ended.ending.clone()),
            Entry::Verdict(closing) => self.closing = Some((**closing).clone()),
        }
    }

    /// How often this object was asked to reconcile before effect `n`.
    pub fn reconciled(&self, target: &FluxRef) -> u64 {
        self.reconciled.get(target).copied().unwrap_or(0)
    }

    fn opened(&mut self, opened: &Opened) {
        self.n = self.n.max(opened.n);
        self.whole.entry(opened.n).or_insert_with(|| opened.effect.clone());
        if let Effect::Write(Write::Suspend(suspend)) = &opened.effect {
            for target in &suspend.targets {
                if let Some(object) = opened.observed.of(target) {
                    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                    self.suspensions.open(
                        opened.n,
                        Resume { target: target.clone(), uid, previous: plan::was(object) },
                        Some(object.clone()),
                    );
                }
            }
        }
        if let Effect::Write(Write::AcquireLease(_)) = &opened.effect {
            let place = opened
                .observed
                .objects
                .first()
                .and_then(|object| object["metadata"]["namespace"].as_str());
            self.lease_asked = place.map(str::to_owned);
        }
        self.in_doubt.insert(opened.n, opened.clone());
    }

    fn closed(&mut self, closed: &Closed) {
        let (Some(effect), Some(opened)) =
            (self.whole.get(&closed.n).cloned(), self.in_doubt.get(&closed.n))
        else {
            return;
        };
        let (origin, attempt) = (opened.origin, opened.effect.clone());
        if let Effect::Write(Write::AcquireLease(_)) = &attempt {
            self.asked_for_the_lease(closed);
        }
        match (&closed.conflict, &closed.outcome) {
            (Some(_), outcome) => {
                let answer = outcome.as_ref().and_then(|outcome| decode(&effect, outcome));
                if let Effect::Write(Write::Suspend(tried)) = attempt {
                    let holds =
                        if let Some(Answer::Suspend(holds)) = answer { holds } else { vec![] };
                    self.suspensions.settle(closed.n, &holds);
                    self.suspensions.void_others(closed.n, &tried.targets, &holds);
                }
            }
            (None, Some(outcome)) => {
                self.in_doubt.remove(&closed.n);
                self.came(closed.n, closed.at, origin, &effect, outcome);
            }
            (None, None) => {}
        }
    }

    /// An attempt that is closed without a conflict has its own word: applied, or refused, or never sent. After one whose answer got lost, or that
    /// nobody waited for, only that it is ours, or another's, is a word.
    fn asked_for_the_lease(&mut self, closed: &Closed) {
        self.lease_lost |= closed.conflict.is_some() || closed.settled;
        let known = match &closed.outcome {
            Some(Outcome::Error(Error::Conflict(_))) => true,
            Some(Outcome::Error(_)) => !self.lease_lost,
            Some(Outcome::Ok(_)) | None => false,
        };
        if known && closed.conflict.is_none() {
            self.lease_asked = None;
        }
    }

    fn done(&mut self, done: &Done) {
        self.n = self.n.max(done.n);
        self.denials.extend(done.denial.clone());
        if let Effect::Local(Local::Step(step)) = &done.effect {
            self.step = Some(step.name.clone());
        }
        self.came(done.n, done.at, done.origin, &done.effect, &done.outcome);
    }

    fn came(
        &mut self,
        n: u64,
        at: salve_core::Millis,
        origin: Origin,
        effect: &Effect,
        outcome: &Outcome,
    ) {
        self.bytes += size(effect, outcome);
        if origin == Origin::Guest {
            self.last = n;
        }
        self.facts.push(Fact::of(n, at, effect, outcome, &self.facts));
        if let (Effect::Read(Read::Lease(_)), Some(Answer::Lease(holder))) =
            (effect, decode(effect, outcome))
        {
            self.lease_asked = self
                .lease_asked
                .take()
                .filter(|_| holder.is_some_and(|holder| holder.run == self.run));
        }
        let Effect::Write(write) = effect else { return };
        if let Write::Reconcile(reconcile) = write {
            *self.reconciled.entry(reconcile.target.clone()).or_default() += 1;
        }
        match (write, decode(effect, outcome)) {
            (Write::Suspend(_), Some(Answer::Suspend(holds))) => self.suspensions.settle(n, &holds),
            (Write::Resume(release), Some(Answer::Resume(resumed))) => {
                self.suspensions.close(release, &resumed)
            }
            (Write::AcquireLease(_), Some(Answer::AcquireLease(acquired))) => {
                (self.lease, self.lease_asked) = (Some(acquired), None)
            }
            (Write::ReleaseLease(_), Some(Answer::ReleaseLease(()))) => self.lease = None,
            (
                Write::AcquireLease(_)
                | Write::ReleaseLease(_)
                | Write::Suspend(_)
                | Write::Resume(_)
                | Write::Reconcile(_)
                | Write::Delete(_)
                | Write::Recreate(_)
                | Write::Restart(_),
                _,
            ) => {}
        }
    }
}

fn decode(effect: &Effect, outcome: &Outcome) -> Option<Answer> {
    outcome.ok().and_then(|raw| effect.decode(raw).ok())
}

/// What an entry takes, as far as a guest decides on it.
fn size(effect: &Effect, outcome: &Outcome) -> usize {
    let words = match effect {
        Effect::Local(Local::Note(note)) => note.text.len(),
        Effect::Local(Local::Step(step)) => step.name.len() + step.title.len(),
        Effect::Local(Local::AskUser(ask)) => ask.question.len(),
        Effect::Local(Local::Now(_) | Local::Sleep(_)) | Effect::Read(_) | Effect::Write(_) => 0,
    };
    200 + words + outcome.ok().map_or(0, |raw| raw.get().len())
}
