//! Replays a run offline.

use crate::output::CommandError;
use salve_core::grants::Grants;
use salve_core::journal::{Command, Entry, GuestExit, Header, RunResult};
use salve_core::sanitize::sanitized;
use salve_run::{Halt, Run};
use salve_sandbox::{Guest, GuestError, Linking};

/// The result of an offline replay.
pub struct Replayed {
    /// How the guest ended in the replay.
    pub exit: GuestExit,
    pub result: RunResult,
    /// Where the replay diverges from the journal, if it does.
    pub divergence: Option<Divergence>,
}

/// The point at which a replay differs from the run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Divergence {
    /// The number of the entry; `None` if the journal or the replay has ended there.
    pub entry: Option<u64>,
    /// What the run did.
    pub expected: String,
    /// What the replay does.
    pub got: String,
}

/// Replays a guest offline: answers its calls from the journal and determines the verdict again.
/// With `other` grants, decisions are compared with those grants.
///
/// # Errors
/// The journal has no header, or is of an undo.
pub async fn replay(
    guest: &Guest,
    entries: Vec<Entry>,
    other: Option<Grants>,
) -> Result<Replayed, CommandError> {
    let header = entries.first().and_then(Entry::header).cloned().ok_or_else(|| {
        CommandError::document("not a run file: the first line is not a run's header")
    })?;
    let linked = guest.link(Linking::Every).map_err(|e| CommandError::denied(e.to_string()))?;
    let run = Run::replay(entries, other).map_err(|e| CommandError::host(e.to_string()))?;
    let recorded = run.recorded_exit();
    let mut slot = Some(run);
    let configuration = header.configuration.to_string();
    let outcome = match header.command {
        Command::Check => linked
            .diagnose(&mut slot, &configuration, header.limits)
            .await
            .map(GuestExit::Diagnosed),
        Command::Plan | Command::Run => linked
            .remediate(&mut slot, &configuration, header.limits)
            .await
            .map(GuestExit::Concluded),
        Command::Undo => return Err(has_no_guest(&header)),
    };
    let run = returned_run(slot)?;
    let outcome = check_journal_used(&run, outcome);
    let (exit, divergence) = match (&recorded, outcome) {
        (_, Err(error @ GuestError::Halted(Halt::Diverged { .. }))) => {
            (error.to_guest_exit(&run), divergence(&error))
        }
        // The run was stopped from outside, so the exit of the guest cannot be compared.
        (Some(stopped @ (GuestExit::Died(_) | GuestExit::Stopped(_))), _) => {
            (stopped.clone(), None)
        }
        (
            Some(GuestExit::Concluded(_) | GuestExit::Diagnosed(_)),
            Err(GuestError::Halted(Halt::JournalEnds { asked })),
        ) => {
            let divergence =
                Divergence { entry: None, expected: describe_exit(recorded.as_ref()), got: asked };
            (GuestExit::Died(run.step().map(str::to_owned)), Some(divergence))
        }
        (Some(recorded), Err(GuestError::Halted(Halt::JournalEnds { .. }))) => {
            (recorded.clone(), None)
        }
        (None, Err(GuestError::Halted(Halt::JournalEnds { .. }))) => {
            (GuestExit::Died(run.step().map(str::to_owned)), None)
        }
        (_, outcome) => {
            let exit = outcome.unwrap_or_else(|error| error.to_guest_exit(&run));
            let differs = recorded.as_ref().is_some_and(|recorded| *recorded != exit);
            let divergence = differs.then(|| Divergence {
                entry: None,
                expected: describe_exit(recorded.as_ref()),
                got: describe_exit(Some(&exit)),
            });
            (exit, divergence)
        }
    };
    let result = run.result(&exit);
    Ok(Replayed { exit, result, divergence })
}

/// Creates the error for a run that cannot be replayed.
pub fn has_no_guest(header: &Header) -> CommandError {
    let run = sanitized(&header.run);
    CommandError::usage(format!("{run} is an undo: it has no guest to replay"))
}

/// Takes the run back from the sandbox.
pub(super) fn returned_run(slot: Option<Run>) -> Result<Run, CommandError> {
    slot.ok_or_else(|| CommandError::host("internal error: the sandbox did not return the run"))
}

/// Turns an exit into a divergence if the guest ended although the journal has more entries.
pub(super) fn check_journal_used(
    run: &Run,
    outcome: Result<GuestExit, GuestError>,
) -> Result<GuestExit, GuestError> {
    let early = match &outcome {
        Err(GuestError::Halted(_)) => None,
        Ok(exit) => run.diverged_early(&describe_exit(Some(exit))),
        Err(error) => run.diverged_early(&error.to_string()),
    };
    early.map_or(outcome, |early| Err(GuestError::Halted(early)))
}

/// Returns the divergence that halted a guest, if one did.
pub(super) fn divergence(error: &GuestError) -> Option<Divergence> {
    if let GuestError::Halted(Halt::Diverged { n, expected, got }) = error {
        Some(Divergence { entry: Some(*n), expected: expected.clone(), got: got.clone() })
    } else {
        None
    }
}

/// Renders an exit as in the journal, to show two exits side by side.
fn describe_exit(exit: Option<&GuestExit>) -> String {
    exit.map_or_else(|| "no exit".into(), |exit| serde_json::to_string(exit).unwrap_or_default())
}
