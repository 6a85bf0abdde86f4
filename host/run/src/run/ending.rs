//! How a run ends: what is suspended is given back, then the verdict is found in the run's own record.

use super::{Mode, Run};
use salve_core::Millis;
use salve_core::effect::Ask;
use salve_core::journal::{Closing, Ended, Ending, Entry, Failure, Origin};
use salve_core::outcome::{Error, Fault};
use salve_core::proof;
use salve_core::report::{Concluded, State, Verdict};
use std::time::Duration;

/// How long a release is tried.
const PATIENCE: Duration = Duration::from_secs(30);

impl Run {
    /// Ends the run: gives back what is still suspended, judges, and writes the verdict.
    ///
    /// # Guarantees
    /// Every open suspension is released whatever the ending is, or stands in the closing with the
    /// verdict `left-open`. `fixed` stands only where this run's own record proves it.
    pub async fn finish(mut self, ending: Ending) -> Closing {
        let at = self.setting.clock.now();
        // A journal that failed cannot keep a release from happening; the closing still tells.
        let _ = self.write(Entry::Ended(Box::new(Ended { at, ending: ending.clone() })));
        if self.setting.mode == Mode::Live {
            self.release().await;
        }
        let closing = self.judge(&ending);
        let _ = self.write(Entry::Verdict(Box::new(closing.clone()))).and_then(|()| self.sync());
        closing
    }

    async fn release(&mut self) {
        let began = self.setting.clock.now();
        let mut pause = Duration::from_secs(1);
        loop {
            for id in self.suspensions.still_open() {
                let Some(release) = self.suspensions.release(id).cloned() else { continue };
                if let Ok(Ok(answer)) = self.carry(release.effect(), Origin::Host, None).await {
                    // What is not released stays in the list, and the loop comes back to it.
                    let _ = self.released(id, answer);
                }
            }
            let over = self.setting.clock.now().saturating_sub(began) >= PATIENCE.as_millis() as Millis;
            if self.suspensions.still_open().is_empty() || over || self.setting.stop.insisted() {
                return;
            }
            self.setting.clock.sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(8));
        }
    }

    fn judge(&self, ending: &Ending) -> Closing {
        let open = if self.setting.mode == Mode::Live { self.suspensions.releases() } else { vec![] };
        let (mut verdict, mut sentence) = match ending {
            Ending::Diagnosed(d) => match d.state {
                State::Incident => (Verdict::NotFixed, d.sentence.clone()),
                State::NotThisIncident => (Verdict::NotThisIncident, d.sentence.clone()),
                State::Healthy => (Verdict::NothingToDo, d.sentence.clone()),
            },
            Ending::Concluded(c) => match c.verdict {
                Concluded::Fixed => match proof::holds(&self.facts, &c.proof) {
                    Ok(()) => (Verdict::Fixed, c.sentence.clone()),
                    Err(why) => (Verdict::NotFixed, format!("the guest says \"{}\", but {why}", c.sentence)),
                },
                Concluded::NothingToDo => (Verdict::NothingToDo, c.sentence.clone()),
                Concluded::NotThisIncident => (Verdict::NotThisIncident, c.sentence.clone()),
                Concluded::NotFixed => (Verdict::NotFixed, c.sentence.clone()),
            },
            Ending::PlanEnds(why) => (Verdict::Planned, why.clone()),
            Ending::Stopped(Some(step)) => (Verdict::NotFixed, format!("stopped by you during `{step}`")),
            Ending::Stopped(None) => (Verdict::NotFixed, "stopped by you".into()),
            Ending::Failed(failure) => (self.verdict_of(failure), failure.text.clone()),
        };
        if let Some(broken) = &self.broken {
            verdict = Verdict::Failed(Fault::Host);
            sentence = format!("{broken}; {sentence}");
        }
        if !open.is_empty() {
            verdict = Verdict::LeftOpen;
            let names: Vec<_> = open.iter().map(|o| o.target.to_string()).collect();
            sentence = format!("still suspended by this run: {}; {sentence}", names.join(", "));
        }
        Closing { at: self.setting.clock.now(), verdict, sentence, open }
    }

    fn verdict_of(&self, failure: &Failure) -> Verdict {
        match failure.fault {
            Fault::Grant => Verdict::Denied,
            Fault::Cluster | Fault::Guest | Fault::Host => Verdict::Failed(failure.fault),
        }
    }

    /// How a guest's own error ends a run.
    pub fn ending_of_error(&self, error: &Error) -> Ending {
        let fault = match error.fault() {
            // No grant of ours said no, so the cluster's own RBAC did.
            Fault::Grant if self.denials.is_empty() => Fault::Cluster,
            fault => fault,
        };
        Ending::Failed(Failure { fault, text: error.to_string() })
    }
}
