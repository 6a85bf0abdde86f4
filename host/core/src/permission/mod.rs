//! What a run needs of the cluster, worked out from the grants and the footprint table: the least Role, the admission policy that holds
//! the same credential to the fields, and what neither can say.
//!
//! [`imports`] shows a component's imports beside the grants. [`needs`] is the one list of requests; [`role`] and [`admission`] write it down for Kubernetes, [`limits`] says what only the host enforces;
//! [`enforcement`] which of them hold a credential that is in use.

pub mod admission;
pub mod enforcement;
pub mod imports;
pub mod limits;
pub mod needs;
pub mod role;

use serde_json::{Value, json};

/// The ServiceAccount that all of it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its namespace: one of its own, for whoever may edit a namespace may act as its ServiceAccounts.
    pub namespace: String,
    /// Its name; whatever is made for it begins with it.
    pub name: String,
}

impl Account {
    /// As the API server knows it.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    fn subject(&self) -> Value {
        json!({"kind": "ServiceAccount", "name": self.name, "namespace": self.namespace})
    }
}
