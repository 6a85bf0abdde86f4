//! The Rust a guest author writes against: the contract of `wit/` as modules, and a few comforts.
//!
//! One module a capability, named as its WIT interface. A guest imports what it calls and nothing
//! else, so the list of a component's imports is the list of what it can do.
//!
//! ```
//! use salve_sdk::report::{Conclusion, Description, Diagnosis, State, Verdict};
//! use salve_sdk::{Error, Remediation, Schema, query_pods};
//!
//! struct Watch;
//!
//! impl Remediation for Watch {
//!     fn describe() -> Description {
//!         let configuration = Schema::new().text("namespace", "default", "Where to look.").to_json();
//!         Description { name: "watch".into(), version: "0.1.0".into(), fixes: "Nothing.".into(), configuration }
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
//! What may be done is the host's business: nothing here judges, retries or hides an error.

mod export;
pub mod report;
pub mod schema;
pub mod wording;

/// What `wit-bindgen` makes of the contract. Use the modules beside it instead.
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
        // It owns a suspension: what could a second one equal?
        additional_derives_ignore: ["suspend-result"],
    });
}

pub use bindings::salve::cluster::{
    delete_replicationsources, query_drivers, query_flux, query_objects, query_pods, query_pvcs,
    query_replicationsources, reconcile_flux, restart_deployment, run, suspend_flux, tail_logs,
    types,
};
pub use export::Remediation;
#[doc(hidden)]
pub use export::keep_panics;
pub use schema::Schema;
pub use types::{Error, FluxKind, FluxRef, ObjectRef};
