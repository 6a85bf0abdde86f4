//! ServiceAccounts with their own roles, and kubeconfigs with their tokens.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::cluster::str_at;
use super::credentials::User;
use super::{ControlPlane, kinds};

impl ControlPlane {
    /// Creates a ServiceAccount and its namespace, applies the documents of its roles and bindings,
    /// and returns the path of a kubeconfig with its token.
    pub async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        roles: &str,
    ) -> Result<PathBuf> {
        let cluster = self.cluster(User::Administrator).await?;
        let parent =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        cluster.apply(&parent).await?;
        let account = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace},
        });
        cluster.apply(&account).await?;
        if !roles.trim().is_empty() {
            self.apply_yaml(roles)
                .await
                .context("failed to apply the roles of the ServiceAccount")?;
        }
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 7200},
        });
        let path = format!("{}/token", kinds::SERVICE_ACCOUNTS.path(namespace, name));
        let response = cluster.post(&path, &request).await?;
        let user = format!("system:serviceaccount:{namespace}:{name}");
        self.credentials.write_kubeconfig(&user, str_at(&response, "/status/token"))
    }
}
