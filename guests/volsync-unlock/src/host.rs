//! Where the outline asks: the host in the sandbox, a small scripted cluster in native tests.

#[cfg(test)]
pub use crate::scripted::{
    delete_replicationsources, query_drivers, query_flux, query_objects, query_pods, query_pvcs,
    query_replicationsources, reconcile_flux, restart_deployment, run, suspend_flux, tail_logs,
};
#[cfg(not(test))]
pub use salve_sdk::{
    delete_replicationsources, query_drivers, query_flux, query_objects, query_pods, query_pvcs,
    query_replicationsources, reconcile_flux, restart_deployment, run, suspend_flux, tail_logs,
};
