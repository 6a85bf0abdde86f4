//! ServiceAccounts with a role of their own and a kubeconfig that holds their token.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::cluster::text;
use super::credentials::User;
use super::{ControlPlane, kinds};

impl ControlPlane {
    /// Creates a ServiceAccount, applies the documents that grant it something, and gives the kubeconfig with its token.
    pub async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        grants: &str,
    ) -> Result<PathBuf> {
        let cluster = self.cluster(User::Administrator).await?;
        let within =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        cluster.apply(&within).await?;
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace},
        });
        cluster.apply(&account).await?;
        if !grants.trim().is_empty() {
            self.apply_yaml(grants).await.context("the role of the ServiceAccount is refused")?;
        }
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200},
        });
        let path = format!("{}/token", kinds::SERVICE_ACCOUNTS.path(namespace, name));
        let answer = cluster.post(&path, &request).await?;
        let user = format!("system:serviceaccount:{namespace}:{name}");
        self.credentials.write_kubeconfig(&user, text(&answer, "/status/token"))
    }
}
