//! A simulated or real API server, used through `kube::Client` with plain requests and responses.

use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use salve_simulator::Simulator;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub const MERGE: &str = "application/merge-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const JSON_PATCH: &str = "application/json-patch+json";

/// The limit for a condition to become true.
const TIMEOUT: Duration = Duration::from_secs(90);

#[derive(Clone)]
pub struct Cluster {
    client: kube::Client,
    server: Server,
    /// The namespace of the test.
    pub namespace: String,
}

#[derive(Clone)]
enum Server {
    Simulated(Simulator),
    /// With the directory of the control plane.
    Real(PathBuf),
}

impl Cluster {
    pub fn simulated(simulator: Simulator, namespace: &str) -> Self {
        Self {
            client: kube::Client::new(simulator.clone(), "default"),
            server: Server::Simulated(simulator),
            namespace: namespace.into(),
        }
    }

    pub fn real(client: kube::Client, folder: &Path, namespace: &str) -> Self {
        Self { client, server: Server::Real(folder.to_owned()), namespace: namespace.into() }
    }

    /// Creates the namespace of the test and waits for the ServiceAccount that its pods need.
    pub async fn create_namespace(&self) {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace},
        });
        self.create("/api/v1/namespaces", &namespace).await;
        if let Server::Real(_) = self.server {
            let account = format!("/api/v1/namespaces/{}/serviceaccounts/default", self.namespace);
            self.eventually("the namespace has its ServiceAccount", async || {
                self.get(&account).await.0 == 200
            })
            .await;
        }
    }

    /// Returns the path of a resource in the namespace of the test: `v1/configmaps`,
    /// `apps/v1/deployments`.
    pub fn path(&self, resource: &str) -> String {
        let (version, plural) = resource.rsplit_once('/').unwrap();
        let root = if version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{version}/namespaces/{}/{plural}", self.namespace)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Request::get(path), Vec::new()).await
    }

    /// Gets an object. Panics unless the response is 200.
    pub async fn get_ok(&self, path: &str) -> Value {
        let (code, object) = self.get(path).await;
        assert_eq!(code, 200, "GET {path}: {object}");
        object
    }

    pub async fn post(&self, path: &str, document: &Value) -> (u16, Value) {
        self.send(
            Request::post(path).header("content-type", "application/json"),
            document.to_string().into(),
        )
        .await
    }

    /// Creates an object. Panics unless the response is 201.
    pub async fn create(&self, path: &str, document: &Value) -> Value {
        let (code, object) = self.post(path, document).await;
        assert_eq!(code, 201, "POST {path}: {object}");
        object
    }

    pub async fn patch(&self, path: &str, content_type: &str, patch: &Value) -> (u16, Value) {
        self.send(
            Request::patch(path).header("content-type", content_type),
            patch.to_string().into(),
        )
        .await
    }

    /// Applies a merge patch. Panics unless the response is 200.
    pub async fn merge(&self, path: &str, patch: &Value) -> Value {
        let (code, object) = self.patch(path, MERGE, patch).await;
        assert_eq!(code, 200, "PATCH {path}: {object}");
        object
    }

    pub async fn delete(&self, path: &str, options: &Value) -> (u16, Value) {
        self.send(
            Request::delete(path).header("content-type", "application/json"),
            options.to_string().into(),
        )
        .await
    }

    /// Sends a request. Returns the status code and the body: a JSON document or a string.
    pub async fn send(&self, request: http::request::Builder, body: Vec<u8>) -> (u16, Value) {
        let response = self.client.send(request.body(Body::from(body)).unwrap()).await.unwrap();
        let code = response.status().as_u16();
        (code, document(&response.into_body().collect().await.unwrap().to_bytes()))
    }

    /// Returns the events of a watch with a timeout of two seconds.
    pub async fn watch(&self, path: &str) -> Vec<Value> {
        let request = Request::get(format!("{path}&watch=true&timeoutSeconds=2"))
            .body(Body::empty())
            .unwrap();
        let body = self.client.send(request).await.unwrap().into_body().collect();
        if let Server::Simulated(simulator) = &self.server {
            // The watch ends in virtual time.
            simulator.clock().advance(Duration::from_secs(2));
        }
        let bytes = body.await.unwrap().to_bytes();
        bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(document).collect()
    }

    /// Polls until `check` returns true.
    pub async fn eventually(&self, what: &str, mut check: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        let mut checks = 0;
        while !check().await {
            checks += 1;
            match &self.server {
                Server::Simulated(simulator) => {
                    assert!(
                        checks < TIMEOUT.as_secs(),
                        "{what}: not within {TIMEOUT:?} of virtual time"
                    );
                    simulator.clock().advance(Duration::from_secs(1));
                }
                Server::Real(_) => {
                    assert!(began.elapsed() < TIMEOUT, "{what}: not within {TIMEOUT:?}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Returns the path of the log of a pod that has written lines over several seconds.
    pub async fn log_path(&self) -> String {
        let Server::Real(folder) = &self.server else {
            let pods =
                self.get_ok("/api/v1/namespaces/media/pods?labelSelector=app%3Dimporter").await;
            return format!(
                "/api/v1/namespaces/media/pods/{}/log",
                pods["items"][0]["metadata"]["name"].as_str().unwrap()
            );
        };
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "logger"},
            "spec": {"containers": [{"name": "logger", "image": "logger"}]},
        });
        self.create(&self.path("v1/pods"), &pod).await;
        let file = folder.join("logger.log");
        let lines: String = (0..9)
            .map(|n| format!("2026-08-20T10:00:0{n}.5{n}0000000Z stderr F line {n}\n"))
            .collect();
        std::fs::write(&file, lines).unwrap();
        let logs = json!({
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "Logs",
            "metadata": {"name": "logger"},
            "spec": {"logs": [{"containers": ["logger"], "logsFile": file}]},
        });
        self.create(&self.path("kwok.x-k8s.io/v1alpha1/logs"), &logs).await;
        let path = format!("{}/logger/log", self.path("v1/pods"));
        self.eventually("the log is served", async || self.get(&path).await.0 == 200).await;
        path
    }
}

fn document(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

pub fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

pub fn kustomization(name: &str) -> Value {
    json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": name},
        "spec": {
            "interval": "1h0m0s",
            "prune": true,
            "path": "./apps",
            "sourceRef": {"kind": "GitRepository", "name": "absent"},
        },
    })
}

pub const KUSTOMIZATIONS: &str = "kustomize.toolkit.fluxcd.io/v1/kustomizations";
pub const SOURCES: &str = "volsync.backube/v1alpha1/replicationsources";

pub fn source(name: &str) -> Value {
    json!({
        "apiVersion": "volsync.backube/v1alpha1",
        "kind": "ReplicationSource",
        "metadata": {"name": name},
        "spec": {"sourcePVC": name, "paused": true},
    })
}

/// Returns the `Status` document of a failed request.
pub fn failure(code: u16, reason: &str, message: &str, details: &Value) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": reason,
        "code": code,
        "message": message,
        "details": details,
    })
}
