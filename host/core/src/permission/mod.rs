//! What a run needs of the cluster, derived from its grants and the footprints of its functions.
//!
//! - [`needs`]: the requests of a run
//! - [`role`], [`admission`]: the Role that allows them, and the policies that limit their fields
//! - [`limits`]: what neither can express
//! - [`enforcement`]: which of these limit a credential in use
//! - [`imports`]: what a component imports, next to what its documents grant

pub mod admission;
pub mod enforcement;
pub mod imports;
pub mod limits;
pub mod needs;
pub mod role;

use serde_json::{Value, json};

/// The ServiceAccount that permissions are generated for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Should be used for nothing else: anyone who may edit a namespace may act as its
    /// ServiceAccounts.
    pub namespace: String,
    /// Also the prefix of the names of its permissions.
    pub name: String,
}

impl Account {
    /// Returns its user name.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    fn subject(&self) -> Value {
        json!({"kind": "ServiceAccount", "name": self.name, "namespace": self.namespace})
    }
}
