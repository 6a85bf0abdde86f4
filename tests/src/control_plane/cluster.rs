//! The hand of the harness on the cluster: plain documents in, plain documents out.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use super::kinds::Kind;

/// The field manager and user agent of the harness.
const HAND: &str = "story";

/// A cluster seen by one user. Cheap to clone; bound to the runtime that connected it.
#[derive(Clone)]
pub struct Cluster {
    client: kube::Client,
}

/// A client with what this kubeconfig says, never through a proxy: the API server is on loopback.
pub async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.proxy_url = None;
    Ok(kube::Client::try_from(config)?)
}

impl Cluster {
    /// Connects with this kubeconfig.
    pub async fn connect(kubeconfig: &Path) -> Result<Cluster> {
        Ok(Cluster { client: client(kubeconfig).await? })
    }

    /// The object, if it is there.
    pub async fn find(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Option<Value>> {
        match self.send(Method::GET, &kind.path(namespace, name), "", None).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if code(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object; that it is not there is an error.
    pub async fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value> {
        self.find(kind, namespace, name)
            .await?
            .ok_or_else(|| anyhow!("there is no {} {namespace}/{name}", kind.kind))
    }

    /// All objects of a kind in a namespace, or in all of them if none is named.
    pub async fn list(&self, kind: &Kind, namespace: &str) -> Result<Vec<Value>> {
        let mut list = self.send(Method::GET, &kind.path(namespace, ""), "", None).await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            other => Err(anyhow!("a list of {} holds {other} for items", kind.plural)),
        }
    }

    /// Makes the object what the document says (server-side apply), status left aside, and gives it back.
    pub async fn apply(&self, document: &Value) -> Result<Value> {
        let path = address(document)?;
        let query = format!("?fieldManager={HAND}&force=true");
        self.send(
            Method::PATCH,
            &format!("{path}{query}"),
            "application/apply-patch+yaml",
            Some(document),
        )
        .await
    }

    /// Creates the object and gives it back. A name that is taken is an error.
    pub async fn create(&self, document: &Value) -> Result<Value> {
        let kind = Kind::of(document).with_context(|| unknown(document))?;
        let path = kind.path(text(document, "/metadata/namespace"), "");
        self.send(Method::POST, &path, "application/json", Some(document)).await
    }

    /// Merges a patch into the object.
    pub async fn merge(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value> {
        self.send(
            Method::PATCH,
            &kind.path(namespace, name),
            "application/merge-patch+json",
            Some(patch),
        )
        .await
    }

    /// Merges a status into the status of the object.
    pub async fn merge_status(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        status: &Value,
    ) -> Result<Value> {
        let path = format!("{}/status", kind.path(namespace, name));
        let patch = serde_json::json!({"status": status});
        self.send(Method::PATCH, &path, "application/merge-patch+json", Some(&patch)).await
    }

    /// Deletes the object; one that is not there is as good as deleted.
    pub async fn delete(&self, kind: &Kind, namespace: &str, name: &str) -> Result<()> {
        match self.send(Method::DELETE, &kind.path(namespace, name), "", None).await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some(404) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The log of a container as the API server gives it, with timestamps.
    pub async fn log(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        let path = super::kinds::PODS.path(namespace, pod);
        self.text(&format!("{path}/log?container={container}&timestamps=true")).await
    }

    /// The body of a GET.
    pub async fn text(&self, path: &str) -> Result<String> {
        Ok(self.client.request_text(Request::get(path).body(Vec::new())?).await?)
    }

    /// Sends a document to an address that has no name above.
    pub async fn post(&self, path: &str, document: &Value) -> Result<Value> {
        self.send(Method::POST, path, "application/json", Some(document)).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let mut request =
            Request::builder().method(method.clone()).uri(path).header("User-Agent", HAND);
        if !content.is_empty() {
            request = request.header("Content-Type", content);
        }
        let answer = self.client.request(request.body(bytes)?).await;
        answer.with_context(|| format!("{method} {path}"))
    }
}

/// The code with which the API server refused, if it was the API server.
pub fn code(error: &anyhow::Error) -> Option<u16> {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Some(status.code),
        Some(_) | None => None,
    }
}

/// The text at a place of a document; nothing there reads as empty.
pub fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn address(document: &Value) -> Result<String> {
    let kind = Kind::of(document).with_context(|| unknown(document))?;
    Ok(kind.path(text(document, "/metadata/namespace"), text(document, "/metadata/name")))
}

fn unknown(document: &Value) -> String {
    format!("the harness does not know the kind {} of {}", document["kind"], document["apiVersion"])
}
