//! Shows a run on stderr as it happens: steps, notes, and every change with its equivalent command.
//! A terminal also gets a progress line; without one, the output is plain lines.

use super::{ERROR, HEADING, MUTED, WARN, describe_outcome, duration, transcript};
use salve_core::capability::run::Level;
use salve_core::capability::{Answer, Effect, Local, Target};
use salve_core::journal::{Closed, Done, Entry, ObservedState, Opened, Recorded};
use salve_core::outcome::Outcome;
use salve_core::report::{EffectOutcome, refused_observation};
use salve_core::sanitize::sanitized;
use salve_run::{Observer, Unreleased};
use std::collections::HashMap;
use std::time::Duration;

/// How many commands of a change are shown without `-v`.
const MAX_COMMANDS: usize = 6;

/// An observer that prints a run to stderr.
pub struct Live {
    steps: usize,
    verbose: bool,
    quiet: bool,
    /// Changes without an outcome yet, as they were asked for, by entry number.
    opened: HashMap<u64, Effect>,
}

impl Live {
    /// Creates an observer that prints every step.
    pub fn new(verbose: bool) -> Self {
        Self { steps: 0, verbose, quiet: false, opened: HashMap::new() }
    }

    /// Shows only the progress line, for commands that print the complete result at the end.
    pub fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }

    fn print(&self, line: &str) {
        if !self.quiet {
            transcript::line(line);
        }
    }

    fn print_commands(&self, commands: &[String]) {
        let shown = if self.verbose { commands.len() } else { commands.len().min(MAX_COMMANDS) };
        for command in &commands[..shown] {
            self.print(&format!("{:14}{MUTED}$ {}{MUTED:#}", "", sanitized(command)));
        }
        if shown < commands.len() {
            self.print(&format!("{:14}{MUTED}… {} more: -v{MUTED:#}", "", commands.len() - shown));
        }
    }

    fn on_opened(&mut self, opened: &Opened) {
        if opened.attempt == 1 {
            self.opened.insert(opened.n, opened.effect.clone());
            self.print_commands(&commands(&opened.effect, Some(&opened.observed)));
        } else {
            self.print(&format!(
                "{:14}{WARN}retrying what remains: attempt {}{WARN:#}",
                "", opened.attempt
            ));
        }
    }

    fn on_closed(&mut self, closed: &Closed, answer: Option<&Answer>) {
        let (None, Some(outcome)) = (&closed.conflict, &closed.outcome) else { return };
        self.print_error(outcome);
        if let (Some(effect), Some(answer)) = (self.opened.remove(&closed.n), answer) {
            self.print_summary(&effect, answer);
        }
    }

    fn on_done(&mut self, done: &Done, answer: Option<&Answer>) {
        match &done.effect {
            Effect::Local(Local::Step(step)) => {
                self.steps += 1;
                self.print(&format!(
                    "{HEADING}{:>3} {:<10}{HEADING:#}{}",
                    self.steps,
                    sanitized(&step.name),
                    sanitized(&step.title)
                ));
            }
            Effect::Local(Local::Note(note)) => {
                // mutant guest-text-unescaped: sanitized(&note.text) ~> note.text.clone()
                let text = sanitized(&note.text);
                self.print(&match note.level {
                    Level::Info => format!("{:14}{text}", ""),
                    Level::Warning => format!("{:14}{WARN}{text}{WARN:#}", ""),
                });
            }
            Effect::Local(Local::Observed(observed)) => {
                if let Outcome::Error(error) = &done.outcome {
                    let text = sanitized(&refused_observation(observed, error));
                    self.print(&format!("{:14}{WARN}{text}{WARN:#}", ""));
                }
            }
            Effect::Local(Local::Now(_) | Local::Sleep(_) | Local::AskUser(_)) => {}
            Effect::Read(_) => self.print_error(&done.outcome),
            Effect::Write(_) | Effect::Reversal(_) => {
                if let Outcome::Error(_) = done.outcome {
                    self.print_commands(&commands(&done.effect, done.observed.as_ref()));
                }
                self.print_error(&done.outcome);
                if let Some(answer) = answer {
                    self.print_summary(&done.effect, answer);
                }
            }
        }
    }

    /// Prints what a change did not do although it has an answer.
    fn print_summary(&self, effect: &Effect, answer: &Answer) {
        match EffectOutcome::of(effect, answer) {
            EffectOutcome::Ok | EffectOutcome::Planned | EffectOutcome::InDoubt => {}
            outcome @ (EffectOutcome::Partial(_) | EffectOutcome::TakenOver(_)) => {
                let text = describe_outcome(&outcome);
                self.print(&format!("{:14}{WARN}{}{WARN:#}", "", sanitized(&text)));
            }
            outcome @ EffectOutcome::Failed(_) => {
                let text = describe_outcome(&outcome);
                self.print(&format!("{:14}{ERROR}{}{ERROR:#}", "", sanitized(&text)));
            }
        }
    }

    fn print_error(&self, outcome: &Outcome) {
        if let Outcome::Error(error) = outcome {
            self.print(&format!("{:14}{ERROR}{}{ERROR:#}", "", sanitized(&error.to_string())));
        }
    }
}

impl Observer for Live {
    fn on_start(&mut self, effect: &Effect) {
        if let Some(message) = progress(effect) {
            transcript::progress(Some(sanitized(&message)));
        }
    }

    fn on_entry(&mut self, recorded: Recorded<'_>) {
        match recorded.entry {
            Entry::Header(_) | Entry::Approved(_) => {}
            Entry::Recovery(_) => {
                self.print(&format!("{MUTED}resuming the run where its process died{MUTED:#}"))
            }
            Entry::Opened(opened) => self.on_opened(opened),
            Entry::Closed(closed) => self.on_closed(closed, recorded.answer),
            Entry::Done(done) => self.on_done(done, recorded.answer),
            // A plan is printed completely at its end.
            Entry::Planned(_) => {}
            Entry::GuestExited(_) => transcript::progress(None),
            // The result follows, on stdout.
            Entry::Verdict(_) => {
                transcript::progress(None);
                transcript::flush();
            }
        }
    }

    fn on_unreleased(&mut self, unreleased: &Unreleased<'_>) {
        for line in describe_unreleased(unreleased) {
            transcript::line(&format!("{:14}{WARN}{}{WARN:#}", "", sanitized(&line)));
        }
    }
}

/// Says what is still in effect, why, and what to do.
fn describe_unreleased(unreleased: &Unreleased<'_>) -> [String; 2] {
    let Unreleased { open, tried_for, error, next, interrupts } = unreleased;
    let newest = open.first();
    let mut active =
        newest.map(|open| open.reversal.still_active(open.in_doubt)).unwrap_or_default();
    if open.len() > 1 {
        active += &format!("; and {} more", open.len() - 1);
    }
    let tried_for = duration(*tried_for);
    let next = match next {
        Some(next) => {
            let keys = if *interrupts == 0 { "Ctrl-C twice" } else { "Ctrl-C again" };
            let next = next.as_secs();
            format!("trying again in {next} s; {keys} stops trying and prints what to do by hand")
        }
        None => "gave up: what to do by hand follows".to_owned(),
    };
    [format!("{active} (tried for {tried_for}): {error}"), next]
}

/// Returns the commands that a person would type instead of a change.
fn commands(effect: &Effect, observed: Option<&ObservedState>) -> Vec<String> {
    match effect {
        Effect::Local(_) | Effect::Read(_) => vec![],
        Effect::Write(write) => write.commands(observed),
        Effect::Reversal(reversal) => reversal.commands(),
    }
}

/// Returns the text of the progress line during a call, if the call may take a while.
fn progress(effect: &Effect) -> Option<String> {
    let first = |targets: Vec<Target>| targets.first().map(Target::to_string).unwrap_or_default();
    match effect {
        Effect::Local(Local::Sleep(sleep)) => {
            Some(format!("waiting {}", duration(sleep.milliseconds)))
        }
        Effect::Local(
            Local::Now(_)
            | Local::Step(_)
            | Local::Note(_)
            | Local::AskUser(_)
            | Local::Observed(_),
        ) => None,
        Effect::Read(read) if effect.waits() > Duration::ZERO => Some(format!(
            "waiting for {}, at most {}",
            first(read.targets()),
            duration(u64::try_from(effect.waits().as_millis()).unwrap_or(u64::MAX))
        )),
        Effect::Read(read) => Some(format!("reading: {}", read.name())),
        Effect::Write(write) => Some(format!("{} {}", write.name(), first(write.targets()))),
        Effect::Reversal(reversal) => {
            Some(format!("{} {}", reversal.name(), first(reversal.targets())))
        }
    }
}
