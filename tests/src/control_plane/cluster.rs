//! A client of the harness for the cluster that takes and returns plain JSON documents.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use super::kinds::Kind;

/// The field manager and user agent of the harness. Tests recognize requests of the program by a
/// user agent that begins with `salve`.
const CLIENT_NAME: &str = "test-harness";

/// A connection of one user to the cluster. Cheap to clone; bound to the runtime that connected it.
#[derive(Clone)]
pub struct Cluster {
    client: kube::Client,
}

/// Returns a client for a kubeconfig. It never uses a proxy: the API server is on loopback.
pub async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.proxy_url = None;
    Ok(kube::Client::try_from(config)?)
}

impl Cluster {
    /// Connects with a kubeconfig.
    pub async fn connect(kubeconfig: &Path) -> Result<Cluster> {
        Ok(Cluster { client: client(kubeconfig).await? })
    }

    /// Returns an object, if it exists.
    pub async fn find(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Option<Value>> {
        match self.send(Method::GET, &kind.path(namespace, name), "", None).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if status_code(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns an object. A missing object is an error.
    pub async fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value> {
        self.find(kind, namespace, name)
            .await?
            .ok_or_else(|| anyhow!("{} {namespace}/{name} not found", kind.kind))
    }

    /// Returns all objects of a kind in a namespace, or in all namespaces if it is empty.
    pub async fn list(&self, kind: &Kind, namespace: &str) -> Result<Vec<Value>> {
        let mut list = self.send(Method::GET, &kind.path(namespace, ""), "", None).await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            other => Err(anyhow!("the items of a list of {} are {other}", kind.plural)),
        }
    }

    /// Applies a document by server-side apply, without its status. Returns the object.
    pub async fn apply(&self, document: &Value) -> Result<Value> {
        let path = object_path(document)?;
        let query = format!("?fieldManager={CLIENT_NAME}&force=true");
        self.send(
            Method::PATCH,
            &format!("{path}{query}"),
            "application/apply-patch+yaml",
            Some(document),
        )
        .await
    }

    /// Creates an object and returns it. A name that is taken is an error.
    pub async fn create(&self, document: &Value) -> Result<Value> {
        let kind = Kind::of_document(document).with_context(|| unknown(document))?;
        let path = kind.path(str_at(document, "/metadata/namespace"), "");
        self.send(Method::POST, &path, "application/json", Some(document)).await
    }

    /// Applies a merge patch to an object and returns it.
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

    /// Merges `status` into the status of an object and returns it.
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

    /// Deletes an object. A missing object is not an error.
    pub async fn delete(&self, kind: &Kind, namespace: &str, name: &str) -> Result<()> {
        match self.send(Method::DELETE, &kind.path(namespace, name), "", None).await {
            Ok(_) => Ok(()),
            Err(error) if status_code(&error) == Some(404) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns the log of a container with timestamps.
    pub async fn log(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        let path = super::kinds::PODS.path(namespace, pod);
        self.get_text(&format!("{path}/log?container={container}&timestamps=true")).await
    }

    /// Returns the body of the response to a GET.
    pub async fn get_text(&self, path: &str) -> Result<String> {
        Ok(self.client.request_text(Request::get(path).body(Vec::new())?).await?)
    }

    /// Posts a document to a path that no other function covers.
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
            Request::builder().method(method.clone()).uri(path).header("User-Agent", CLIENT_NAME);
        if !content.is_empty() {
            request = request.header("Content-Type", content);
        }
        let response = self.client.request(request.body(bytes)?).await;
        response.with_context(|| format!("{method} {path}"))
    }
}

/// Returns the HTTP status code, if the error is a response of the API server.
pub fn status_code(error: &anyhow::Error) -> Option<u16> {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Some(status.code),
        Some(_) | None => None,
    }
}

/// Returns the string at a JSON pointer, or an empty one.
pub fn str_at<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn object_path(document: &Value) -> Result<String> {
    let kind = Kind::of_document(document).with_context(|| unknown(document))?;
    Ok(kind.path(str_at(document, "/metadata/namespace"), str_at(document, "/metadata/name")))
}

fn unknown(document: &Value) -> String {
    format!("the harness does not know the kind {} of {}", document["kind"], document["apiVersion"])
}
