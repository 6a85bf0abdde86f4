//! Why a component cannot run here, in terms that its author can act on.

use crate::contract::{PACKAGE, VERSION};
use crate::inspect::{DEPTH_CEILING, SIZE_CEILING};
use salve_core::capability::Capability;

/// Why a component was not loaded. Nothing was run or changed. The guest is at fault, except for
/// [`LoadError::Host`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error(
        "not a WebAssembly file (starts with {start:?}); expected the `.wasm` file produced by the \
         guest's build"
    )]
    NotWasm {
        /// The first bytes of the file, as text.
        start: String,
    },
    /// The file is WebAssembly, but not a component.
    #[error(
        "not a component but a core WebAssembly module; link it with `wasm-component-ld` (the \
         linker for the target wasm32-unknown-unknown), or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    #[error(
        "component is too large ({size} bytes, limit {SIZE_CEILING}); build it with optimizations \
         and without debug information"
    )]
    TooLarge {
        /// In bytes.
        size: usize,
    },
    /// Components are nested so deep that validating them would take too long.
    #[error(
        "component has components nested more than {DEPTH_CEILING} deep; no build tool produces \
         that, so the file is malicious or broken"
    )]
    TooDeep,
    #[error("component is damaged, or uses a WebAssembly feature that Salve does not enable: {0}")]
    Damaged(String),
    #[error(
        "component imports WASI, which Salve does not provide (no files, clocks, sockets, or \
         randomness): {}; it was probably built for wasm32-wasip2. Build it for \
         wasm32-unknown-unknown with the linker wasm-component-ld, and use `{PACKAGE}/run` for \
         time and waiting",
        .0.join(", ")
    )]
    Wasi(Vec<String>),
    /// The component was built against another version of the contract.
    #[error(
        "component was built for another version of {PACKAGE}: it imports {}, but this Salve has \
         {VERSION}; `salve wit` prints the contract to build against",
        imports.join(", ")
    )]
    OtherVersion {
        /// The imported interfaces, with their versions.
        imports: Vec<String>,
    },
    /// The component imports interfaces that do not exist.
    #[error(
        "component imports interfaces that this Salve does not have: {}; a guest can import only \
         the interfaces of {PACKAGE}@{VERSION}",
        .0.join(", ")
    )]
    Unknown(Vec<String>),
    /// The component implements another world.
    #[error(
        "component is not a remediation: it does not export {}{}; its world must be \
         `{PACKAGE}/remediation@{VERSION}` (see `salve wit`)",
        missing.join(", "), listed(exports)
    )]
    OtherWorld {
        /// The exports of a remediation that the component lacks.
        missing: Vec<&'static str>,
        exports: Vec<String>,
    },
    /// The names of imports and exports match the contract, but their types do not.
    #[error(
        "component does not match {PACKAGE}@{VERSION}: {0}; build it against the contract that \
         `salve wit` prints"
    )]
    OtherTypes(String),
    /// Compiling the component exceeds a limit.
    #[error(
        "component cannot be compiled within {seconds} s and {mib} MiB of memory: {why}; build it \
         smaller"
    )]
    Compiling {
        /// The limit of wall time.
        seconds: u64,
        /// The limit of memory.
        mib: u64,
        /// How the compiler process ended.
        why: String,
    },
    /// Salve failed.
    #[error("internal error in salve, not caused by the component: {0}")]
    Host(String),
}

fn listed(exports: &[String]) -> String {
    if exports.is_empty() { String::new() } else { format!(" (it exports {})", exports.join(", ")) }
}

/// Write capabilities that a guest imports and no document grants. Checked before anything is done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "guest imports {}, which no document grants; nothing was done. Grant it in spec.grants of the \
     Remediation and of the policy in effect, or use a guest that does not need it",
    .capabilities.iter().map(|capability| capability.name()).collect::<Vec<_>>().join(", ")
)]
pub struct Ungranted {
    pub capabilities: Vec<Capability>,
}
