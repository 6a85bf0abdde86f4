//! Runs one guest component and hands each of its calls to the door.
//!
//! A guest is looked at ([`inspect`]), loaded ([`Sandbox::load`]), linked with what it is granted
//! ([`Guest::link`]) and called ([`Linked::diagnose`], [`Linked::remediate`]). What a call comes to is
//! the door's business (`salve_run::Run`): `capabilities/` translates and decides nothing.
//!
//! The only crate that knows wasmtime.

mod bindings;
mod bounds;
mod cache;
mod capabilities;
pub mod contract;
mod describe;
mod engine;
mod guest;
mod guest_end;
mod inspect;
mod link;
mod load_error;
mod state;

pub use engine::{CALL_CEILING, HANDLE_CEILING};
pub use guest::{Compiler, Guest, Linked, Sandbox, compile};
pub use guest_end::GuestEnd;
pub use inspect::{
    DEPTH_CEILING, Import, ImportKind, Inspection, SIZE_CEILING, UpperBound, inspect,
};
pub use link::Linking;
pub use load_error::{LoadError, Ungranted};
