//! A touch: prepared, opened in the journal, performed, closed. In a plan: prepared, and recorded only.

use super::{Halt, Run, patience, recorded_form, within};
use crate::backend::{Acted, Prepared};
use salve_core::effect::delete_replicationsources::{Deletion, End, Frozen};
use salve_core::effect::suspend_flux::Resume;
use salve_core::effect::{Answer, Ask, Effect, Touch};
use salve_core::journal::{Closed, Done, Entry, Opened, Origin, Prior};
use salve_core::outcome::Error;
use salve_core::plan;
use salve_core::proof::Fact;

/// How often a write is prepared anew after a conflict.
const ATTEMPTS: u32 = 5;

impl Run {
    pub(super) async fn plan(&mut self, n: u64, touch: Touch, suspension: Option<&mut Option<u32>>) -> Result<Result<Answer, Error>, Halt> {
        let effect = Effect::Touch(touch.clone());
        let footprint = self.footprint(&effect);
        if let Touch::Resume(_) = touch {
            let answer = self.overlay.record(&touch, &Prior::default(), self.setting.clock.now());
            return self.planned(n, effect, answer, Prior::default());
        }
        let backend = self.setting.backend.clone();
        match within(patience(&effect), backend.prepare(&touch, &footprint)).await {
            Err(error) => self.done(n, Origin::Guest, effect, Err(error), None, None),
            Ok(Prepared::Settled(answer)) => self.done(n, Origin::Guest, effect, Ok(answer), None, None),
            Ok(Prepared::Ready(prior)) => {
                let answer = self.overlay.record(&touch, &prior, self.setting.clock.now());
                if let (Touch::Suspend(s), Answer::Suspend(done)) = (&touch, &answer) {
                    let id = self.suspensions.open(Resume { target: s.target.clone(), uid: done.uid.clone(), prior: done.prior });
                    if let Some(slot) = suspension {
                        *slot = Some(id);
                    }
                }
                self.planned(n, effect, answer, prior)
            }
        }
    }

    fn planned(&mut self, n: u64, effect: Effect, answer: Answer, prior: Prior) -> Result<Result<Answer, Error>, Halt> {
        let at = self.setting.clock.now();
        let outcome = recorded_form(&Ok(answer.clone()))?;
        let fact = Fact::of(n, at, &effect, &outcome, &self.facts);
        self.facts.push(fact);
        self.write(Entry::Planned(Box::new(Done { n, origin: Origin::Guest, at, effect, outcome, denial: None, prior: Some(prior) })))?;
        Ok(Ok(answer))
    }

    pub(super) async fn touch(&mut self, n: u64, origin: Origin, touch: Touch, suspension: Option<&mut Option<u32>>) -> Result<Result<Answer, Error>, Halt> {
        let effect = Effect::Touch(touch.clone());
        let footprint = self.footprint(&effect);
        let backend = self.setting.backend.clone();
        let mut rest = touch.clone();
        let mut sofar: Option<Answer> = None;
        let mut id = None;
        let mut opened = false;
        let mut answer = Err(Error::Conflict(format!("it changed {ATTEMPTS} times while we tried")));
        for attempt in 1..=ATTEMPTS {
            let prior = match within(patience(&effect), backend.prepare(&rest, &footprint)).await {
                Err(error) => {
                    answer = Err(error);
                    break;
                }
                Ok(Prepared::Settled(settled)) => {
                    answer = Ok(settled);
                    break;
                }
                Ok(Prepared::Ready(prior)) => prior,
            };
            // On the disk before the first byte leaves: a crash in between leaves the effect in doubt, never unseen.
            let at = self.setting.clock.now();
            let entry = Entry::Opened(Box::new(Opened { n, origin, attempt, at, effect: Effect::Touch(rest.clone()), prior: prior.clone() }));
            match self.write(entry).and_then(|()| self.sync()) {
                Ok(()) => opened = true,
                // A release is sent even where it cannot be recorded: frozen for ever is worse than unrecorded.
                Err(_) if matches!(touch, Touch::Resume(_)) => {}
                Err(halt) => return Err(halt),
            }
            if let Touch::Suspend(s) = &touch {
                let uid = prior.objects.first().and_then(|o| o["metadata"]["uid"].as_str()).unwrap_or_default().to_owned();
                let release = Resume { target: s.target.clone(), uid, prior: plan::was(&prior) };
                match id {
                    None => id = Some(self.suspensions.open(release)),
                    Some(id) => self.suspensions.renew(id, release),
                }
            }
            let acted = tokio::select! {
                acted = tokio::time::timeout(patience(&effect), backend.act(&rest, &prior, &footprint)) => acted,
                () = self.setting.stop.wait_insisted(), if origin == Origin::Guest => return Err(Halt::Stopped),
            };
            match acted {
                Ok(Acted::Done(done)) => {
                    answer = done;
                    break;
                }
                Ok(Acted::Conflict { sofar: part, rest: left, message }) => {
                    let at = self.setting.clock.now();
                    self.write_for(origin, Entry::Closed(Closed { n, at, outcome: None, conflict: Some(message.clone()) }))?;
                    sofar = merge(&touch, sofar, part);
                    rest = left;
                    answer = Err(Error::Conflict(message));
                }
                Err(_) => {
                    answer = Err(Error::Unavailable(format!("no answer within {} s; whether it was applied is not known", patience(&effect).as_secs())));
                    break;
                }
            }
        }
        let answer = whole(&touch, sofar, answer, opened);
        let result = if opened { self.closed(n, origin, &effect, answer)? } else { self.done(n, origin, effect, answer, None, None)? };
        match (id, &result) {
            (Some(id), Ok(_)) => {
                if let Some(slot) = suspension {
                    *slot = Some(id);
                }
            }
            // It may have been applied before it failed: give it back. What was never applied costs one read.
            (Some(id), Err(_)) => {
                if let Some(release) = self.suspensions.release(id).cloned()
                    && let Ok(Ok(answer)) = Box::pin(self.carry(release.effect(), Origin::Host, None)).await
                {
                    let _ = self.released(id, answer);
                }
            }
            (None, _) => {}
        }
        Ok(result)
    }
}

/// Adds what one attempt came to. Only a set can be applied in part.
fn merge(touch: &Touch, sofar: Option<Answer>, part: Option<Answer>) -> Option<Answer> {
    match (touch, sofar, part) {
        (Touch::Delete(_), Some(Answer::Delete(mut all)), Some(Answer::Delete(more))) => {
            all.extend(more);
            Some(Answer::Delete(all))
        }
        (_, sofar, None) => sofar,
        (_, _, part) => part,
    }
}

/// The whole answer: for a set in its own order, with what never came to an end marked as refused.
fn whole(touch: &Touch, sofar: Option<Answer>, last: Result<Answer, Error>, opened: bool) -> Result<Answer, Error> {
    let Touch::Delete(delete) = touch else { return last };
    let (part, why) = match last {
        Ok(answer) => (Some(answer), None),
        // Nothing was sent: the set as a whole came to nothing.
        Err(error) if !opened => return Err(error),
        Err(error) => (None, Some(error.to_string())),
    };
    let deletions = match merge(touch, sofar, part) {
        Some(Answer::Delete(deletions)) => deletions,
        None => vec![],
        Some(_) => return Err(Error::Unavailable("the backend answered a deletion with another call's answer".into())),
    };
    let deletion = |f: &Frozen| {
        deletions.iter().find(|d| d.uid == f.uid && d.object == f.object).cloned().unwrap_or_else(|| Deletion {
            object: f.object.clone(),
            uid: f.uid.clone(),
            end: End::Refused,
            message: Some(why.clone().unwrap_or_else(|| "nothing was said about it".into())),
        })
    };
    Ok(Answer::Delete(delete.set.iter().map(deletion).collect()))
}
