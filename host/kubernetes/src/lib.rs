//! Performs effects on an API server. The only crate that depends on kube.
//!
//! A [`Cluster`] is a connection, a [`ClusterBackend`] is a [`Backend`](salve_run::Backend) on it. What may happen was decided
//! before; here it is done, and nothing leaves but what the effect's footprint covers (`fence`). Objects stay JSON, so that fields which
//! this version does not know survive. Read in this order:
//!
//! - `connect`, `cluster`, `clock`: how a cluster is reached, and its time
//! - `fence`, `send`, `failure`: the one way out, and what comes back when it is not an answer
//! - `resource`, `discovery`: where objects are; `object`, `time`, `pod`: how they are read
//! - `backend`: one module a capability

#![forbid(unsafe_code)]

mod backend;
mod clock;
mod cluster;
mod connect;
mod delete_replicationsources;
mod discovery;
mod egress;
mod failure;
mod flux;
mod host;
mod lease;
mod object;
mod pod;
mod query_drivers;
mod query_flux;
mod query_objects;
mod query_pods;
mod query_pvcs;
mod query_replicationsources;
mod reconcile_flux;
mod resource;
mod restart_deployment;
mod send;
mod service_account;
mod suspend_flux;
mod tail_logs;
mod time;

pub use backend::ClusterBackend;
pub use cluster::Cluster;
pub use connect::{ConnectError, Connection, IN_CLUSTER};
