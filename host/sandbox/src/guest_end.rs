//! How a guest ended when it did not return what it was asked for, and whose fault that is.

use crate::engine::{CALL_CEILING, Ceilings};
use salve_core::journal::{Failure, GuestExit};
use salve_core::outcome::{Error, Fault};
use salve_core::sanitize::sanitized;
use salve_run::{Halt, Run};
use wasmtime::{Trap, WasmBacktrace};

/// Why there is no diagnosis or conclusion. [`GuestEnd::fault`] says who has to act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestEnd {
    /// The guest said so itself.
    #[error("the guest gave up: {0}")]
    Local(Error),
    /// The door ended it.
    #[error("{0}")]
    Halted(Halt),
    /// It broke.
    #[error("the guest broke: {}", saying(.message, .last_note.as_deref()))]
    Trap {
        /// What wasm says.
        message: String,
        /// The functions that it was in, the innermost first.
        backtrace: Vec<String>,
        /// Its last words, if the call before the trap was `run.note`: a Rust guest's panic is there.
        last_note: Option<String>,
    },
    /// It asked the run itself for nonsense, where the contract has no error to answer.
    #[error("the guest broke the contract: {call}: {error}")]
    Misuse {
        /// The function.
        call: &'static str,
        /// What is wrong with its arguments.
        error: Error,
    },
    /// It did not come to an end.
    #[error(
        "the guest used up its fuel ({billions} thousand million instructions): it loops, or it needs more under spec.limits.fuelBillions"
    )]
    OutOfFuel {
        /// What it had.
        billions: u32,
    },
    /// It wanted too much memory, and broke when it did not get it.
    #[error(
        "the guest wanted more than its {mib} MiB of memory: it hoards, or it needs more under spec.limits.memoryMib"
    )]
    Memory {
        /// What it may have.
        mib: u32,
    },
    /// It wanted too large a table, and broke when it did not get it.
    #[error("the guest wanted a table of more than {elements} elements")]
    Tables {
        /// What it may have.
        elements: usize,
    },
    /// It called itself too deep.
    #[error("the guest's stack is exhausted: it recurses without end")]
    StackOverflow {
        /// The functions that it was in, the innermost first.
        backtrace: Vec<String>,
    },
    /// It handed over too much at once.
    #[error("the guest handed over more than {} KiB in one call, or returned more: {CALL_CEILING} bytes are the most", CALL_CEILING >> 10)]
    CallCeiling,
    /// What it returned cannot be kept.
    #[error("the guest returned too much: {0}")]
    Answer(String),
    /// Salve broke.
    #[error("salve broke, which is not the guest's fault: {0}")]
    Host(String),
}

impl GuestEnd {
    /// Who has to act. None where nobody did wrong: a person stopped it, or a plan came to its end.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Local(error) | Self::Misuse { error, .. } => Some(error.fault()),
            Self::Halted(Halt::Stopped | Halt::PlanEnds(_) | Halt::RecordEnds { .. }) => None,
            Self::Halted(Halt::ClusterLocked(_)) => Some(Fault::Cluster),
            Self::Halted(Halt::Differs(_)) => Some(Fault::Grant),
            Self::Halted(Halt::Broken(_)) | Self::Host(_) => Some(Fault::Host),
            Self::Halted(Halt::Flooded(_) | Halt::Late(_) | Halt::Diverged { .. }) => {
                Some(Fault::Guest)
            }
            Self::Trap { .. }
            | Self::OutOfFuel { .. }
            | Self::Memory { .. }
            | Self::Tables { .. }
            | Self::StackOverflow { .. }
            | Self::CallCeiling
            | Self::Answer(_) => Some(Fault::Guest),
        }
    }

    /// The functions that the guest was in, the innermost first; empty where that says nothing.
    pub fn backtrace(&self) -> &[String] {
        match self {
            Self::Trap { backtrace, .. } | Self::StackOverflow { backtrace } => backtrace,
            Self::Local(_)
            | Self::Halted(_)
            | Self::Misuse { .. }
            | Self::OutOfFuel { .. }
            | Self::Memory { .. }
            | Self::Tables { .. }
            | Self::CallCeiling
            | Self::Answer(_)
            | Self::Host(_) => &[],
        }
    }

    /// The same as the run's record tells it. The run knows whether a denial was its own or the cluster's.
    pub fn ending(&self, run: &Run) -> GuestExit {
        match self {
            Self::Local(error) => run.ending_of_error(error),
            Self::Halted(Halt::PlanEnds(why)) => GuestExit::PlanEnds(why.clone()),
            Self::Halted(Halt::Stopped) => GuestExit::Stopped(run.step().map(str::to_owned)),
            Self::Halted(
                Halt::Broken(_)
                | Halt::Flooded(_)
                | Halt::Late(_)
                | Halt::Diverged { .. }
                | Halt::Differs(_)
                | Halt::ClusterLocked(_)
                | Halt::RecordEnds { .. },
            )
            | Self::Misuse { .. }
            | Self::Trap { .. }
            | Self::OutOfFuel { .. }
            | Self::Memory { .. }
            | Self::Tables { .. }
            | Self::StackOverflow { .. }
            | Self::CallCeiling
            | Self::Answer(_)
            | Self::Host(_) => {
                let fault = self.fault().unwrap_or(Fault::Host);
                GuestExit::Failed(Failure { fault, text: self.to_string() })
            }
        }
    }
}

fn saying(message: &str, last_note: Option<&str>) -> String {
    match last_note {
        Some(note) => format!("{note} ({message})"),
        None => message.to_owned(),
    }
}

/// A call of `run` whose arguments cannot be, for which the contract has no error: it traps.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {error}")]
pub(crate) struct Misuse {
    pub call: &'static str,
    pub error: Error,
}

/// A promise inside this crate that did not hold.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub String);

/// Tells apart what a call into the guest can end with.
pub(crate) fn of_error(
    error: wasmtime::Error,
    ceilings: &Ceilings,
    last_note: Option<&str>,
) -> GuestEnd {
    if let Some(halt) = error.downcast_ref::<Halt>() {
        return GuestEnd::Halted(halt.clone());
    }
    if let Some(Misuse { call, error }) = error.downcast_ref() {
        return GuestEnd::Misuse { call, error: error.clone() };
    }
    if let Some(Broken(text)) = error.downcast_ref() {
        return GuestEnd::Host(text.clone());
    }
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::OutOfFuel) {
        return GuestEnd::OutOfFuel { billions: ceilings.limits().fuel_billions };
    }
    if trap == Some(&Trap::StackOverflow) {
        return GuestEnd::StackOverflow { backtrace: functions(&error) };
    }
    if let Some(end) = ceilings.refused() {
        return end;
    }
    // Wasmtime keeps this error's type to itself; a test of this crate holds it to its words.
    if error.chain().any(|cause| cause.to_string().contains("fuel allocated for hostcalls")) {
        return GuestEnd::CallCeiling;
    }
    let message = match trap {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    GuestEnd::Trap {
        message: sanitized(&message),
        backtrace: functions(&error),
        last_note: last_note.map(sanitized),
    }
}

fn functions(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return vec![] };
    // Its text is the only place where names come demangled. The first line is a heading.
    backtrace.to_string().lines().skip(1).map(|line| sanitized(line.trim())).collect()
}
