//! The library for writing guests in Rust: the contract in `wit/` as modules, and a few helpers.
//!
//! There is one module per capability, named like its WIT interface. A component imports only the
//! functions that its guest calls, so its imports list everything that it can do.
//!
//! ```
//! use salve_sdk::report::{Conclusion, Description, Diagnosis, State, Verdict};
//! use salve_sdk::{Error, Remediation, Schema, query_pods};
//!
//! struct Watch;
//!
//! impl Remediation for Watch {
//!     fn describe() -> Description {
//!         let schema = Schema::new().text("namespace", "default", "The namespace to watch.");
//!         Description {
//!             name: "watch".into(),
//!             version: "0.1.0".into(),
//!             fixes: "Nothing.".into(),
//!             configuration: schema.to_json(),
//!         }
//!     }
//!
//!     fn diagnose(_: &str) -> Result<Diagnosis, Error> {
//!         let pods = query_pods::list_pods(&["default".into()])?;
//!         Ok(Diagnosis::new(State::Healthy, format!("{} pods", pods.len())))
//!     }
//!
//!     fn remediate(_: &str) -> Result<Conclusion, Error> {
//!         Ok(Conclusion::new(Verdict::NothingToDo, "there is nothing to do"))
//!     }
//! }
//!
//! salve_sdk::remediation!(Watch);
//! # fn main() {}
//! ```
//!
//! The host decides what a guest may do: this library does not decide, retry, or hide any error.

mod export;
pub mod format;
mod handle;
pub mod report;
pub mod schema;

/// The bindings that `wit-bindgen` generates from the contract. Use the re-exported modules
/// instead.
#[doc(hidden)]
#[allow(
    unsafe_code,
    missing_docs,
    clippy::all,
    reason = "generated: the calls across the component boundary"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "remediation",
        pub_export_macro: true,
        export_macro_name: "export_remediation",
        default_bindings_module: "salve_sdk::bindings",
        additional_derives: [PartialEq, Eq, PartialOrd, Ord, Hash],
    });
}

pub use bindings::salve::cluster::reversals::Reversal;
pub use bindings::salve::cluster::types::{Error, FluxKind, FluxRef, Kind, ObjectRef};
// Except `report`, which this crate's own module shadows.
pub use bindings::salve::cluster::*;
pub use export::Remediation;
#[doc(hidden)]
pub use export::install_panic_hook;
pub use schema::Schema;
