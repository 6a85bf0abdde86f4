//! Runs: every call passes [`Run::call`], which replays, else decides, else performs it, and
//! records it.
//!
//! This crate knows no wasm and no Kubernetes: calls are values of `salve_core`, a [`Backend`]
//! performs them, and a [`Journal`] keeps them.
//!
//! Read in this order: `run` (the path of a call; `run/` has its parts: decisions, writes,
//! reversals, replay, the end), `state` and `reversals` (what entries add up to), `replay_cursor`
//! (what a replay answers), `run_file` (where entries are kept), `backend`, `observer`, `stop`.

#![forbid(unsafe_code)]
// A new case must be considered wherever cases differ.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

mod backend;
mod journal;
mod observer;
mod replay_cursor;
mod reversals;
mod run;
mod run_file;
mod state;
mod stop;

pub use backend::{ApplyOutcome, Backend, Clock, Current, ReleaseOutcome};
pub use journal::{InMemory, Journal};
pub use observer::{NoPrompt, Observer, Prompt, Unreleased};
pub use run::{Halt, Mode, Planner, Run, RunContext};
pub use run_file::{Damage, Disk, RunFile};
pub use stop::Stop;
