//! A run as it happens: steps, what is said in them, and every touch with the command that does the same.
//! On a terminal a line below shows what is waited for; elsewhere there are plain lines only.

use super::{ERROR, HEADING, MUTED, WARN};
use futures::future::BoxFuture;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use salve_core::effect::delete_replicationsources::DeletionOutcome;
use salve_core::effect::run::Level;
use salve_core::effect::{Answer, Effect, Local, Read, Write};
use salve_core::equivalent;
use salve_core::journal::{Done, Entry, Opened};
use salve_core::outcome::Outcome;
use salve_core::sanitize::sanitized;
use salve_run::Observer;
use std::io::{self, IsTerminal, Write as _};
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

    fn commands(&self, write: &Write) {
        let commands = equivalent::commands(write);
        let shown = if self.verbose { commands.len() } else { commands.len().min(COMMANDS) };
        for command in &commands[..shown] {
            self.say(&format!("{:14}{MUTED}$ {}{MUTED:#}", "", sanitized(command)));
        }
        if shown < commands.len() {
            self.say(&format!("{:14}{MUTED}… {} more: -v{MUTED:#}", "", commands.len() - shown));
        }
    }

    fn opened(&mut self, opened: &Opened) {
        let Effect::Write(write) = &opened.effect else { return };
        if let Write::Delete(_) = write
            && opened.attempt == 1
        {
            self.deleting = Some((opened.n, opened.effect.clone()));
        }
        if opened.attempt == 1 {
            self.commands(write);
        } else {
            self.say(&format!(
                "{:14}{WARN}what is left of it is tried again: attempt {}{WARN:#}",
                "", opened.attempt
            ));
        }
    }

    fn done(&mut self, done: &Done) {
        match &done.effect {
            Effect::Local(Local::Step(step)) => {
                self.steps += 1;
                self.say(&format!(
                    "{HEADING}{:>3} {:<10}{HEADING:#}{}",
                    self.steps,
                    sanitized(&step.name),
                    sanitized(&step.title)
                ));
            }
            Effect::Local(Local::Note(note)) => {
                // mutant guest-text-unescaped: sanitized(&note.text) ~> note.text.clone()
                let text = sanitized(&note.text);
                self.say(&match note.level {
                    Level::Info => format!("{:14}{text}", ""),
                    Level::Warning => format!("{:14}{WARN}{text}{WARN:#}", ""),
                });
            }
            Effect::Local(Local::Now(_) | Local::Sleep(_) | Local::AskUser(_)) => {}
            Effect::Read(_) => self.trouble(&done.outcome),
            Effect::Write(write) => {
                if let Outcome::Error(_) = done.outcome {
                    self.commands(write);
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
        for one in all.iter().filter(|d| {
            !matches!(d.outcome, DeletionOutcome::Deleted | DeletionOutcome::AlreadyGone)
        }) {
            let why = one.message.as_deref().unwrap_or("left alone");
            self.say(&format!(
                "{:14}{WARN}{} was not deleted: {}{WARN:#}",
                "",
                one.object,
                sanitized(why)
            ));
        }
    }

    fn trouble(&self, outcome: &Outcome) {
        if let Outcome::Error(error) = outcome {
            self.say(&format!("{:14}{ERROR}{}{ERROR:#}", "", sanitized(&error.to_string())));
        }
    }
}

impl Observer for Live {
    fn on_start(&mut self, effect: &Effect) {
        let phrase = match effect {
            Effect::Local(Local::Sleep(sleep)) => {
                format!("waiting {}", super::duration(sleep.milliseconds))
            }
            Effect::Local(Local::Now(_) | Local::Step(_) | Local::Note(_) | Local::AskUser(_)) => {
                return;
            }
            Effect::Read(Read::AwaitRollout(a)) => {
                format!(
                    "waiting for {} and its leases, at most {}",
                    a.target,
                    super::duration(u64::from(a.wait_seconds) * 1000)
                )
            }
            Effect::Read(look) => format!("looking: {}", look.name()),
            Effect::Write(write) => format!(
                "{} {}",
                write.name(),
                write.targets().first().map(ToString::to_string).unwrap_or_default()
            ),
        };
        self.bar.set_message(sanitized(&phrase));
        self.bar.enable_steady_tick(Duration::from_millis(120));
    }

    fn on_entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Header(_) | Entry::Approved(_) => {}
            Entry::Recovery(_) => {
                self.say(&format!("{MUTED}taking it up where its process died{MUTED:#}"))
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
            Entry::GuestExited(_) | Entry::Verdict(_) => self.bar.finish_and_clear(),
        }
    }

    fn ask(&mut self, question: &str) -> BoxFuture<'static, Option<bool>> {
        if !self.may_ask {
            return Box::pin(async { None });
        }
        self.bar.suspend(|| {
            drop(write!(
                anstream::stderr(),
                "{:14}{HEADING}{}{HEADING:#} [y/N] ",
                "",
                sanitized(question)
            ))
        });
        Box::pin(async {
            let answer = super::typed_line().await?;
            Some(matches!(answer.trim(), "y" | "Y" | "yes"))
        })
    }
}
