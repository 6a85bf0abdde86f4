//! The door: every effect passes [`Run::call`], which replays, else decides, else acts, and records.
//!
//! This crate knows no wasm and no Kubernetes: what is asked are values of `salve_core`, where they are
//! performed is a [`Backend`], where they are kept is a [`Journal`].
//!
//! Read in this order: `run` (the door, and in `run/` its moments: a touch, a suspension, a replay, the end), `state` and `record` (what
//! entries come to, and what a replay answers), `file` (where they are kept), `backend`, `observer`, `stop`.

#![forbid(unsafe_code)]

mod backend;
mod journal;
mod observer;
mod replay_cursor;
mod run;
mod run_file;
mod state;
mod stop;
mod suspensions;

pub use backend::{ApplyOutcome, Backend, Clock, Prepared};
pub use journal::{InMemory, Journal};
pub use observer::{NoObserver, Observer};
pub use run::{GuestSuspension, Halt, Mode, Run, RunContext};
pub use run_file::{Disk, RunFile};
pub use stop::Stop;
