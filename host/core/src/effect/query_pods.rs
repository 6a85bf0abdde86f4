//! `query-pods`: pods.

use super::{
    Call, Target,
    shared::{all_of, check_namespaces},
};
use crate::outcome::Error;
use serde::{Deserialize, Serialize};

/// All pods of these namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pods {
    /// The namespaces.
    pub namespaces: Vec<String>,
}

impl Call for Pods {
    fn targets(&self) -> Vec<Target> {
        all_of(&self.namespaces)
    }
    fn check(&self) -> Result<(), Error> {
        check_namespaces(&self.namespaces)
    }
}
