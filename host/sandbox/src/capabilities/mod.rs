//! One file a WIT interface, and nothing but translation in each: from the guest's types to the
//! effects of the door, and back. No decision, no retry, no clock.

mod delete_replicationsources;
mod query_drivers;
mod query_flux;
mod query_objects;
mod query_pods;
mod query_pvcs;
mod query_replicationsources;
mod reconcile_flux;
mod report;
mod restart_deployment;
mod run;
mod suspend_flux;
mod tail_logs;
mod types;

pub use suspend_flux::Suspension;
pub use tail_logs::Cursor;

/// Each element, translated.
fn each<A: Into<B>, B>(list: Vec<A>) -> Vec<B> {
    list.into_iter().map(Into::into).collect()
}

/// An answer or its error, translated.
fn told<A: Into<B>, B>(
    answer: Result<A, salve_core::outcome::Error>,
) -> Result<B, crate::bindings::salve::cluster::types::Error> {
    match answer {
        Ok(answer) => Ok(answer.into()),
        Err(error) => Err(error.into()),
    }
}

/// A list or its error, translated.
fn told_each<A: Into<B>, B>(
    answer: Result<Vec<A>, salve_core::outcome::Error>,
) -> Result<Vec<B>, crate::bindings::salve::cluster::types::Error> {
    match answer {
        Ok(answer) => Ok(each(answer)),
        Err(error) => Err(error.into()),
    }
}
