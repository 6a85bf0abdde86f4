//! Performs effects on a Kubernetes API server. The only crate that depends on kube.
//!
//! A [`Cluster`] is a connection; a [`ClusterBackend`] implements [`Backend`](salve_run::Backend)
//! on it. Whether an effect is allowed was decided before. Here it is performed, and the egress
//! guard lets no request pass that the effect's footprint does not cover. Objects stay JSON, so
//! that fields unknown to this version survive. Reading order:
//!
//! - `connect`, `cluster`, `clock`: connecting to a cluster, and its time
//! - `egress`, `send`, `failure`: sending requests, and classifying their failures
//! - `resource`, `discovery`: paths of objects; `object`, `time`, `pod`: reading objects
//! - `temporary_change`: changes that are annotated, and taken back
//! - `perform`, `backend`: dispatch to one module per capability, in `capability/`

#![forbid(unsafe_code)]
// A new case must be considered wherever cases differ.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

mod backend;
mod capability;
mod clock;
mod cluster;
mod connect;
mod discovery;
mod egress;
mod event;
mod failure;
mod flux;
mod object;
mod perform;
mod pod;
mod resource;
mod send;
mod service_account;
mod temporary_change;
mod time;

pub use backend::ClusterBackend;
pub use cluster::Cluster;
pub use connect::{ConnectError, Connection, IN_CLUSTER};
