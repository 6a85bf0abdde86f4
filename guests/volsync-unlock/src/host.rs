//! The host's interfaces: the real ones in the sandbox, a fake cluster in native tests.

#[cfg(test)]
pub use crate::fake_cluster::{
    delete_replicationsources, query_drivers, query_flux, query_objects, query_pods, query_pvcs,
    query_replicationsources, reconcile_flux, restart_deployment, reversals, run, suspend_flux,
    tail_logs,
};
#[cfg(not(test))]
pub use salve_sdk::{
    delete_replicationsources, query_drivers, query_flux, query_objects, query_pods, query_pvcs,
    query_replicationsources, reconcile_flux, restart_deployment, reversals, run, suspend_flux,
    tail_logs,
};
