//! Says what may happen, what did, and how to tell it: decisions as plain data.
//!
//! Nothing here performs I/O, reads a clock, or knows a wasm or Kubernetes crate. Facts arrive as
//! arguments, answers leave as values. Read in this order:
//!
//! - [`effect`]: everything that can be asked of the outside, one module a capability
//! - [`outcome`]: what an effect came to, and whose fault a failure is
//! - [`footprint`]: which requests an effect may make, and what a write may change
//! - [`grants`]: whether a run may do it; [`document`]: where grants come from
//! - [`permission`]: the Role and the admission policy that a credential needs for it
//! - [`journal`]: what a run did; [`plan`], [`approval`], [`proof`], [`report`]: its readers
//! - [`equivalent`]: the kubectl or flux command that does the same

#![forbid(unsafe_code)]

pub mod approval;
pub mod digest;
pub mod document;
pub mod effect;
pub mod equivalent;
pub mod footprint;
pub mod glob;
pub mod grants;
pub mod journal;
pub mod name;
pub mod outcome;
pub mod permission;
pub mod plan;
pub mod proof;
pub mod report;
pub mod sanitize;

/// Milliseconds since the epoch, by the cluster's clock.
pub type Millis = u64;
