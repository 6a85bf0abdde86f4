//! What may happen, what happened, and how to describe it: decisions as plain data.
//!
//! Nothing here performs I/O, reads a clock, or knows a wasm or Kubernetes crate. Facts arrive as
//! arguments, answers leave as values. Read in this order:
//!
//! - [`capability`]: everything that can be asked of the outside, one module per capability
//! - [`outcome`]: errors, and who has to act on them
//! - [`footprint`]: which requests an effect may send, and which fields it may set
//! - [`grants`]: whether a run may make a call; [`document`]: where grants come from; [`schema`]:
//!   the schemas of documents and reports
//! - [`problem`]: what documents say that a problem looks like
//! - [`permission`]: the Role and the admission policies of a credential
//! - [`journal`]: what a run did; [`approval`], [`proof`], [`report`]: its readers

#![forbid(unsafe_code)]
// A new case must be considered wherever cases differ.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

pub mod approval;
pub mod capability;
pub mod digest;
pub mod document;
pub mod footprint;
pub mod glob;
pub mod grants;
pub mod journal;
pub mod name;
pub mod outcome;
pub mod permission;
pub mod problem;
pub mod proof;
pub mod report;
pub mod schema;

pub use salve_document::sanitize;

/// Milliseconds since the epoch, by the cluster's clock.
pub type Millis = u64;
