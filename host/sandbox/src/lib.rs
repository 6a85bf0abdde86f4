//! Runs one guest component and passes each of its calls to the run.
//!
//! A guest is inspected ([`inspect`]), loaded ([`Sandbox::load`]), linked with the capabilities
//! that it is granted ([`Guest::link`]), and called ([`Linked::diagnose`], [`Linked::remediate`]).
//! The run (`salve_run::Run`) decides the outcome of each call: `capability/` only translates.
//!
//! This is the only crate that depends on wasmtime.

// A new case must be considered wherever cases differ.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

mod bindings;
mod bounds;
mod cache;
mod capability;
pub mod contract;
mod describe;
mod engine;
mod guest;
mod guest_error;
mod inspect;
mod interfaces;
mod link;
mod load_error;
mod state;

pub use engine::{CALL_CEILING, HANDLE_CEILING};
pub use guest::{Compiler, Guest, Linked, Sandbox, compile};
pub use guest_error::GuestError;
pub use inspect::{
    DEPTH_CEILING, Import, ImportKind, Inspection, SIZE_CEILING, UpperBound, inspect,
};
pub use link::Linking;
pub use load_error::{LoadError, Ungranted};
