//! Why a guest returned no diagnosis or conclusion, and whose fault that is.

use crate::engine::{CALL_CEILING, Ceilings, Exceeded};
use salve_core::journal::{Failure, GuestExit};
use salve_core::outcome::{Error, Fault};
use salve_core::sanitize::sanitized;
use salve_run::{Halt, Run};
use std::fmt;
use wasmtime::{FrameInfo, Trap, WasmBacktrace};

/// Frames that an error message shows.
const MAX_FRAMES: usize = 16;
/// Characters that are kept of a function's name.
const MAX_NAME_CHARS: usize = 120;
/// The outermost frame of Rust's panic machinery.
const PANIC: &str = "core::panicking::panic_fmt";

/// Why a call into a guest returned no result. [`GuestError::fault`] says who has to act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// The guest returned an error.
    #[error("guest returned an error: {0}")]
    Returned(Error),
    /// The run stopped the guest.
    #[error("{0}")]
    Halted(Halt),
    /// The guest trapped.
    #[error("guest crashed: {}{}", with_note(.message, .last_note.as_deref()), Stack(.backtrace))]
    Trap {
        message: String,
        /// Names of the functions on the guest's stack, innermost first.
        backtrace: Vec<String>,
        /// The text of `run.note` if that was the call before the trap: the message of a Rust
        /// panic.
        last_note: Option<String>,
    },
    /// The guest passed invalid arguments to a function that cannot return an error.
    #[error("guest called {call} with invalid arguments: {}", .error.text())]
    InvalidCall { call: &'static str, error: Error },
    #[error(
        "guest exceeded its instruction limit ({billions} billion): it may be looping; otherwise \
         raise spec.limits.fuelBillions{}",
        Stack(.backtrace)
    )]
    OutOfFuel { billions: u32, backtrace: Vec<String> },
    /// The guest crashed because it was denied memory.
    #[error(
        "guest exceeded its memory limit ({mib} MiB): it may be leaking memory; otherwise raise \
         spec.limits.memoryMib{}",
        Stack(.backtrace)
    )]
    OutOfMemory { mib: u32, backtrace: Vec<String> },
    /// The guest crashed because it was denied a larger table.
    #[error("guest requested a table of more than {elements} elements{}", Stack(.backtrace))]
    TableTooLarge { elements: usize, backtrace: Vec<String> },
    #[error("guest overflowed its stack: it may be recursing without end{}", Stack(.backtrace))]
    StackOverflow { backtrace: Vec<String> },
    /// The arguments or the result of one call exceed [`CALL_CEILING`].
    #[error(
        "guest passed more than {} KiB in one call, or returned more (limit: {CALL_CEILING} bytes)",
        CALL_CEILING >> 10
    )]
    CallTooLarge,
    /// The diagnosis, conclusion, or description exceeds a limit.
    #[error("guest returned too much: {0}")]
    ResultTooLarge(String),
    /// Salve failed.
    #[error("internal error in salve, not caused by the guest: {0}")]
    Host(String),
}

impl GuestError {
    /// Returns who has to act. None if nothing is wrong with the guest: the user stopped the run,
    /// or the plan ended or is stale.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Returned(error) | Self::InvalidCall { error, .. } => Some(error.fault()),
            Self::Halted(
                Halt::Stopped | Halt::PlanEnds(_) | Halt::Differs(_) | Halt::JournalEnds { .. },
            ) => None,
            Self::Halted(Halt::ClusterLocked(_)) => Some(Fault::Cluster),
            Self::Halted(Halt::Broken(_)) | Self::Host(_) => Some(Fault::Host),
            Self::Halted(
                Halt::TooManyCalls(_) | Halt::DeadlineExceeded(_) | Halt::Diverged { .. },
            ) => Some(Fault::Guest),
            Self::Trap { .. }
            | Self::OutOfFuel { .. }
            | Self::OutOfMemory { .. }
            | Self::TableTooLarge { .. }
            | Self::StackOverflow { .. }
            | Self::CallTooLarge
            | Self::ResultTooLarge(_) => Some(Fault::Guest),
        }
    }

    /// Returns the names of the functions on the guest's stack, innermost first. Empty unless the
    /// guest trapped.
    pub fn backtrace(&self) -> &[String] {
        match self {
            Self::Trap { backtrace, .. }
            | Self::OutOfFuel { backtrace, .. }
            | Self::OutOfMemory { backtrace, .. }
            | Self::TableTooLarge { backtrace, .. }
            | Self::StackOverflow { backtrace } => backtrace,
            Self::Returned(_)
            | Self::Halted(_)
            | Self::InvalidCall { .. }
            | Self::CallTooLarge
            | Self::ResultTooLarge(_)
            | Self::Host(_) => &[],
        }
    }

    /// Converts this error to its form in the journal. The run knows whether a denial was its own
    /// or the cluster's.
    pub fn to_guest_exit(&self, run: &Run) -> GuestExit {
        match self {
            Self::Returned(error) => run.exit_of_error(error),
            Self::Halted(Halt::PlanEnds(why)) => GuestExit::PlanEnds(why.clone()),
            Self::Halted(Halt::Differs(difference)) => GuestExit::Stale(difference.to_string()),
            Self::Halted(Halt::Stopped) => GuestExit::Stopped(run.step().map(str::to_owned)),
            Self::Halted(
                Halt::Broken(_)
                | Halt::TooManyCalls(_)
                | Halt::DeadlineExceeded(_)
                | Halt::Diverged { .. }
                | Halt::ClusterLocked(_)
                | Halt::JournalEnds { .. },
            )
            | Self::InvalidCall { .. }
            | Self::Trap { .. }
            | Self::OutOfFuel { .. }
            | Self::OutOfMemory { .. }
            | Self::TableTooLarge { .. }
            | Self::StackOverflow { .. }
            | Self::CallTooLarge
            | Self::ResultTooLarge(_)
            | Self::Host(_) => {
                let fault = self.fault().unwrap_or(Fault::Host);
                GuestExit::Failed(Failure { fault, text: self.to_string() })
            }
        }
    }
}

fn with_note(message: &str, last_note: Option<&str>) -> String {
    match last_note {
        Some(note) => format!("{note} ({message})"),
        None => message.to_owned(),
    }
}

/// Invalid arguments for a function of `run` that cannot return an error: the guest traps.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {error}")]
pub(crate) struct InvalidCall {
    pub call: &'static str,
    pub error: Error,
}

/// A violated invariant of this crate.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InternalError(pub String);

/// Classifies the error of a call into the guest.
pub(crate) fn classify(
    error: wasmtime::Error,
    ceilings: &Ceilings,
    last_note: Option<&str>,
) -> GuestError {
    if let Some(halt) = error.downcast_ref::<Halt>() {
        return GuestError::Halted(halt.clone());
    }
    if let Some(InvalidCall { call, error }) = error.downcast_ref() {
        return GuestError::InvalidCall { call, error: error.clone() };
    }
    if let Some(InternalError(text)) = error.downcast_ref() {
        return GuestError::Host(text.clone());
    }
    let backtrace = backtrace(&error);
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::OutOfFuel) {
        return GuestError::OutOfFuel { billions: ceilings.limits().fuel_billions, backtrace };
    }
    if trap == Some(&Trap::StackOverflow) {
        return GuestError::StackOverflow { backtrace };
    }
    // The trap that follows a denied request only says `unreachable`.
    match ceilings.exceeded() {
        Some(Exceeded::Memory { mib }) => return GuestError::OutOfMemory { mib, backtrace },
        Some(Exceeded::Table { elements }) => {
            return GuestError::TableTooLarge { elements, backtrace };
        }
        None => {}
    }
    // Wasmtime does not export this error's type. A test of this crate checks the text.
    if error.chain().any(|cause| cause.to_string().contains("fuel allocated for hostcalls")) {
        return GuestError::CallTooLarge;
    }
    let message = match trap {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    GuestError::Trap {
        message: sanitized(&message),
        backtrace,
        last_note: last_note.map(|note| sanitized(&note.replace('\n', " "))),
    }
}

/// Returns the names of the functions on the guest's stack, innermost first.
fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames);
    let name = |frame: &FrameInfo| match frame.func_name() {
        Some(name) => function_name(name),
        None => format!("<wasm function {}>", frame.func_index()),
    };
    frames.unwrap_or_default().iter().map(name).collect()
}

/// Returns a function's name without the hashes of a build, so that an error stays the same.
fn function_name(name: &str) -> String {
    let name = format!("{:#}", rustc_demangle::demangle(name));
    sanitized(&name.chars().take(MAX_NAME_CHARS).collect::<String>())
}

/// Renders a backtrace in one line: an error has one, wherever it is printed.
struct Stack<'a>(&'a [String]);

impl fmt::Display for Stack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let panic = self.0.iter().rposition(|name| name == PANIC);
        let names = &self.0[panic.map_or(0, |panic| panic + 1)..];
        // A recursion is one frame here.
        let frames: Vec<_> = names.chunk_by(|a, b| a == b).collect();
        for (n, repeated) in frames.iter().take(MAX_FRAMES).enumerate() {
            f.write_str(if n == 0 { "; stack: " } else { " <- " })?;
            f.write_str(&repeated[0])?;
            if repeated.len() > 1 {
                write!(f, " ({} times)", repeated.len())?;
            }
        }
        match frames.len().saturating_sub(MAX_FRAMES) {
            0 => Ok(()),
            more => write!(f, " <- {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_functions_are_demangled_and_bounded() {
        assert_eq!(function_name("_ZN7hostile3cpu4deep17h22b094b6cb42c73dE"), "hostile::cpu::deep");
        assert_eq!(function_name("main.remediate"), "main.remediate");
        let name = function_name(&format!("\u{1b}[2J{}", "x".repeat(10_000)));
        assert!(name.starts_with("\\u{1b}[2Jx") && name.len() < 2 * MAX_NAME_CHARS, "{name}");
    }

    #[test]
    fn a_long_stack_is_shortened_and_a_recursion_is_counted() {
        let mut names = vec!["deep".to_owned(); 40];
        names.extend((0..20).map(|n| format!("f{n}")));
        let text = Stack(&names).to_string();
        assert!(text.starts_with("; stack: deep (40 times) <- f0 <- f1 <- "), "{text}");
        assert!(text.ends_with(" <- f14 <- 5 more"), "{text}");
        assert_eq!(Stack(&[]).to_string(), "");
    }

    #[test]
    fn what_every_rust_panic_has_on_its_stack_is_left_out() {
        let names = ["rust_panic", PANIC, "core::option::unwrap_failed", "guest::remediate"];
        let text = Stack(&names.map(str::to_owned)).to_string();
        assert_eq!(text, "; stack: core::option::unwrap_failed <- guest::remediate");
    }
}
