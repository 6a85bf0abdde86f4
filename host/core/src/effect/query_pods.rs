//! `query-pods`: pods.

use super::{
    Target, Validate,
    shared::{all_of, check_namespaces},
};
use crate::outcome::Error;
use serde::{Deserialize, Serialize};

/// All pods of these namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListPods {
    /// The namespaces.
    pub namespaces: Vec<String>,
}

impl Validate for ListPods {
    fn targets(&self) -> Vec<Target> {
        all_of(&self.namespaces)
    }
    fn check(&self) -> Result<(), Error> {
        check_namespaces(&self.namespaces)
    }
}
