//! Why a file cannot run here, said so that its author knows what to do.

use crate::contract::{PACKAGE, VERSION};
use crate::inspect::{DEPTH_CEILING, SIZE_CEILING};

/// Why a component was not loaded. Nothing was run or changed. The fault is the guest's, but for [`LoadError::Host`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It is something else.
    #[error(
        "this is no WebAssembly: it begins with {on_start:?}; give the `.wasm` file that the guest's build made"
    )]
    NotWasm {
        /// Its first characters.
        on_start: String,
    },
    /// It is WebAssembly, but not a component.
    #[error(
        "this is a core module, not a component; link it with `wasm-component-ld` (the linker for the target wasm32-unknown-unknown), or wrap it by `wasm-tools component new`"
    )]
    CoreModule,
    /// It is larger than anything that is looked at.
    #[error(
        "this component has {size} bytes; at most {SIZE_CEILING} are taken: build it with optimisation and without debug information"
    )]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// Components lie in it so deep that only looking at it would take for ever.
    #[error(
        "components lie in this component more than {DEPTH_CEILING} deep, which no tool makes: it was made to harm, or by mistake"
    )]
    TooDeep,
    /// It says that it is a component and is none that can be read.
    #[error("this component is damaged, or uses what Salve does not switch on: {0}")]
    Damaged(String),
    /// It wants an operating system.
    #[error(
        "this component imports WASI, and Salve gives none (no files, clocks, sockets or randomness): {}; was it built for wasm32-wasip2? \
         Build it for wasm32-unknown-unknown with the linker wasm-component-ld; time and waiting are functions of `{PACKAGE}/run`",
        .0.join(", ")
    )]
    Wasi(Vec<String>),
    /// It was built against another version of the contract.
    #[error("this component was built against another version of {PACKAGE}: it imports {}, and this Salve has {VERSION}; `salve wit` prints the contract to build against", imports.join(", "))]
    OtherVersion {
        /// What it imports, with the versions.
        imports: Vec<String>,
    },
    /// It asks for what nobody here gives.
    #[error("this component imports what this Salve does not know: {}; a guest can import the interfaces of {PACKAGE}@{VERSION} and nothing else", .0.join(", "))]
    Unknown(Vec<String>),
    /// It is a component, for something else.
    #[error(
        "this component is not a remediation: it does not export {}{}; its world must be `{PACKAGE}/remediation@{VERSION}`, see `salve wit`",
        missing.join(", "), had(exports)
    )]
    OtherWorld {
        /// What a remediation exports and this does not.
        missing: Vec<&'static str>,
        /// What it exports.
        exports: Vec<String>,
    },
    /// The names are right, the types are not.
    #[error(
        "this component does not fit {PACKAGE}@{VERSION}: {0}; build it against the contract that `salve wit` prints"
    )]
    OtherTypes(String),
    /// Compiling it took more than a component may.
    #[error(
        "this component cannot be compiled within {seconds} s and {mib} MiB of memory, in a process of its own: {why}; build it smaller"
    )]
    Compiling {
        /// Wall time that it may take.
        seconds: u64,
        /// Memory that it may take.
        mib: u64,
        /// How it ended.
        why: String,
    },
    /// Salve could not do its part.
    #[error("salve could not load the component, which is not the component's fault: {0}")]
    Host(String),
}

fn had(exports: &[String]) -> String {
    if exports.is_empty() { String::new() } else { format!(" (it exports {})", exports.join(", ")) }
}

/// Touch capabilities that a guest imports and nothing grants. Said before anything else happens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guest imports {}, which nothing grants; nothing was done. Grant it under spec.grants of its Remediation and of the policy in force, or use a guest that does not need it", .capabilities.join(", "))]
pub struct Ungranted {
    /// All of them.
    pub capabilities: Vec<&'static str>,
}
