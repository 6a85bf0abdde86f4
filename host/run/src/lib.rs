//! The door: every effect passes [`Run::perform`], which replays, else decides, else acts, and records.
//!
//! This crate knows no wasm and no Kubernetes: what is asked are values of `salve_core`, where they are
//! performed is a [`Backend`], where they are kept is a [`Journal`].
//!
//! Replay belongs here and comes with recovery; until then every outcome is a new one.

#![forbid(unsafe_code)]

mod backend;
mod file;
mod journal;
mod person;
mod run;
mod stop;
mod suspensions;

pub use backend::{Acted, Backend, Clock, Prepared};
pub use file::RunFile;
pub use journal::{InMemory, Journal};
pub use person::{Nobody, Person};
pub use run::{Halt, Mode, Run, Setting};
pub use stop::Stop;
