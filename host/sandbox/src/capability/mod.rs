//! One file per WIT interface. Each only translates between the guest's types and core's types: it
//! decides nothing, retries nothing, and reads no clock.

use crate::bindings::salve::cluster::types::Error as WitError;
use salve_core::outcome::Error;

// The interfaces without a capability.
mod report;
mod reversals;
mod types;

macro_rules! declare_modules {
    ($($capability:ident $interface:literal $module:ident;)*) => { $(pub(crate) mod $module;)* };
}
crate::interfaces::each_interface! { [declare_modules] }

/// Converts each element.
fn convert_all<A: Into<B>, B>(list: Vec<A>) -> Vec<B> {
    list.into_iter().map(Into::into).collect()
}

/// Converts a result to the guest's types.
fn into_wit<A: Into<B>, B>(answer: Result<A, Error>) -> Result<B, WitError> {
    match answer {
        Ok(answer) => Ok(answer.into()),
        Err(error) => Err(error.into()),
    }
}

/// Converts a list result to the guest's types.
fn list_into_wit<A: Into<B>, B>(answer: Result<Vec<A>, Error>) -> Result<Vec<B>, WitError> {
    match answer {
        Ok(answer) => Ok(convert_all(answer)),
        Err(error) => Err(error.into()),
    }
}
