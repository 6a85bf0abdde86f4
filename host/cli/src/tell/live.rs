//! A run as it happens: steps, what is said in them, and every touch with the command that does the same.
//! On a terminal a line below shows what is waited for; elsewhere there are plain lines only.

use super::{BAD, CARE, DIM, HEAD};
use futures::future::BoxFuture;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use salve_core::effect::delete_replicationsources::End;
use salve_core::effect::run::Level;
use salve_core::effect::{Answer, Effect, Look, Own, Touch};
use salve_core::equivalent;
use salve_core::journal::{Done, Entry, Opened};
use salve_core::outcome::Outcome;
use salve_core::text::inert;
use salve_run::Person;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// So many commands are shown of one touch, unless one asks for all.
const COMMANDS: usize = 6;

/// Tells a run on stderr.
pub struct Live {
    bar: ProgressBar,
    steps: usize,
    verbose: bool,
    may_ask: bool,
    quiet: bool,
    /// The deletion that is under way.
    deleting: Option<(u64, Effect)>,
}

impl Live {
    /// Ready to tell every step. `may_ask`: a person sits here.
    pub fn new(verbose: bool, may_ask: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("    {spinner} {wide_msg} {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        Self {
            bar,
            steps: 0,
            verbose,
            may_ask: may_ask && io::stdin().is_terminal(),
            quiet: false,
            deleting: None,
        }
    }

    /// Tells only what is waited for: the answer follows whole.
    pub fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }

    fn say(&self, line: &str) {
        if self.quiet {
            return;
        }
        // A terminal that has gone is no reason to leave anything suspended.
        self.bar.suspend(|| drop(writeln!(anstream::stderr(), "{line}")));
    }

    fn commands(&self, touch: &Touch) {
        let commands = equivalent::commands(touch);
        let shown = if self.verbose { commands.len() } else { commands.len().min(COMMANDS) };
        for command in &commands[..shown] {
            self.say(&format!("{:14}{DIM}$ {}{DIM:#}", "", inert(command)));
        }
        if shown < commands.len() {
            self.say(&format!("{:14}{DIM}… {} more: -v{DIM:#}", "", commands.len() - shown));
        }
    }

    fn opened(&mut self, opened: &Opened) {
        let Effect::Touch(touch) = &opened.effect else { return };
        if let Touch::Delete(_) = touch
            && opened.attempt == 1
        {
            self.deleting = Some((opened.n, opened.effect.clone()));
        }
        if opened.attempt == 1 {
            self.commands(touch);
        } else {
            self.say(&format!(
                "{:14}{CARE}what is left of it is tried again: attempt {}{CARE:#}",
                "", opened.attempt
            ));
        }
    }

    fn done(&mut self, done: &Done) {
        match &done.effect {
            Effect::Own(Own::Step(step)) => {
                self.steps += 1;
                self.say(&format!(
                    "{HEAD}{:>3} {:<10}{HEAD:#}{}",
                    self.steps,
                    inert(&step.name),
                    inert(&step.title)
                ));
            }
            Effect::Own(Own::Note(note)) => {
                // mutant guest-text-unescaped: inert(&note.text) ~> note.text.clone()
                let text = inert(&note.text);
                self.say(&match note.level {
                    Level::Info => format!("{:14}{text}", ""),
                    Level::Warning => format!("{:14}{CARE}{text}{CARE:#}", ""),
                });
            }
            Effect::Own(Own::Now(_) | Own::Sleep(_) | Own::AskPerson(_)) => {}
            Effect::Look(_) => self.trouble(&done.outcome),
            Effect::Touch(touch) => {
                if let Outcome::Error(_) = done.outcome {
                    self.commands(touch);
                }
                self.trouble(&done.outcome);
            }
        }
    }

    /// What a deletion did not delete, and why.
    fn left_alone(&mut self, n: u64, outcome: &Outcome) {
        let Some((_, effect)) = self.deleting.take_if(|(m, _)| *m == n) else { return };
        let Some(Answer::Delete(all)) = outcome.ok().and_then(|raw| effect.decode(raw).ok()) else {
            return;
        };
        for one in all.iter().filter(|d| !matches!(d.end, End::Deleted | End::AlreadyGone)) {
            let why = one.message.as_deref().unwrap_or("left alone");
            self.say(&format!(
                "{:14}{CARE}{} was not deleted: {}{CARE:#}",
                "",
                one.object,
                inert(why)
            ));
        }
    }

    fn trouble(&self, outcome: &Outcome) {
        if let Outcome::Error(error) = outcome {
            self.say(&format!("{:14}{BAD}{}{BAD:#}", "", inert(&error.to_string())));
        }
    }
}

impl Person for Live {
    fn begins(&mut self, effect: &Effect) {
        let phrase = match effect {
            Effect::Own(Own::Sleep(sleep)) => {
                format!("waiting {}", super::duration(sleep.milliseconds))
            }
            Effect::Own(Own::Now(_) | Own::Step(_) | Own::Note(_) | Own::AskPerson(_)) => return,
            Effect::Look(Look::AwaitRollout(a)) => {
                format!(
                    "waiting for {} and its leases, at most {}",
                    a.target,
                    super::duration(u64::from(a.wait_seconds) * 1000)
                )
            }
            Effect::Look(look) => format!("looking: {}", look.name()),
            Effect::Touch(touch) => format!(
                "{} {}",
                touch.name(),
                touch.targets().first().map(ToString::to_string).unwrap_or_default()
            ),
        };
        self.bar.set_message(inert(&phrase));
        self.bar.enable_steady_tick(Duration::from_millis(120));
    }

    fn hears(&mut self, entry: &Entry) {
        match entry {
            Entry::Header(_) | Entry::Approved(_) => {}
            Entry::Recovery(_) => {
                self.say(&format!("{DIM}taking it up where its process died{DIM:#}"))
            }
            Entry::Opened(opened) => self.opened(opened),
            Entry::Closed(closed) => {
                if let (None, Some(outcome)) = (&closed.conflict, &closed.outcome) {
                    self.trouble(outcome);
                    self.left_alone(closed.n, outcome);
                }
            }
            Entry::Done(done) => self.done(done),
            // A plan is told whole, at its end.
            Entry::Planned(_) => {}
            Entry::Ended(_) | Entry::Verdict(_) => self.bar.finish_and_clear(),
        }
    }

    fn is_asked(&mut self, question: &str) -> BoxFuture<'static, Option<bool>> {
        if !self.may_ask {
            return Box::pin(async { None });
        }
        self.bar.suspend(|| {
            drop(write!(anstream::stderr(), "{:14}{HEAD}{}{HEAD:#} [y/N] ", "", inert(question)))
        });
        Box::pin(async {
            let answer = super::typed_line().await?;
            Some(matches!(answer.trim(), "y" | "Y" | "yes"))
        })
    }
}
