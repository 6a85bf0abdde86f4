//! One API server, simulated or real, seen through `kube::Client` as bare requests and answers.

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

/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(90);

#[derive(Clone)]
pub struct Cluster {
    client: kube::Client,
    place: Place,
    /// The story's own.
    pub namespace: String,
}

#[derive(Clone)]
enum Place {
    Simulated(Simulator),
    /// With the folder of the control plane.
    Real(PathBuf),
}

impl Cluster {
    pub fn simulated(simulator: Simulator, namespace: &str) -> Self {
        Self {
            client: kube::Client::new(simulator.clone(), "default"),
            place: Place::Simulated(simulator),
            namespace: namespace.into(),
        }
    }

    pub fn real(client: kube::Client, folder: &Path, namespace: &str) -> Self {
        Self { client, place: Place::Real(folder.to_owned()), namespace: namespace.into() }
    }

    /// Makes the story's namespace, with the ServiceAccount that a pod of it needs.
    pub async fn open(&self) {
        let made = self.post("/api/v1/namespaces", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})).await;
        assert_eq!(made.0, 201, "{}", made.1);
        if let Place::Real(_) = self.place {
            let account = format!("/api/v1/namespaces/{}/serviceaccounts/default", self.namespace);
            self.eventually("the namespace has its account", async || {
                self.get(&account).await.0 == 200
            })
            .await;
        }
    }

    /// The story's collection of a kind: `v1/configmaps`, `apps/v1/deployments`.
    pub fn path(&self, kind: &str) -> String {
        let (version, plural) = kind.rsplit_once('/').unwrap();
        let root = if version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{version}/namespaces/{}/{plural}", self.namespace)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Request::get(path), Vec::new()).await
    }

    /// What has to be there.
    pub async fn found(&self, path: &str) -> Value {
        let (code, found) = self.get(path).await;
        assert_eq!(code, 200, "GET {path}: {found}");
        found
    }

    pub async fn post(&self, path: &str, document: &Value) -> (u16, Value) {
        self.ask(
            Request::post(path).header("content-type", "application/json"),
            document.to_string().into(),
        )
        .await
    }

    /// What has to be created.
    pub async fn made(&self, path: &str, document: &Value) -> Value {
        let (code, made) = self.post(path, document).await;
        assert_eq!(code, 201, "POST {path}: {made}");
        made
    }

    pub async fn patch(&self, path: &str, form: &str, patch: &Value) -> (u16, Value) {
        self.ask(Request::patch(path).header("content-type", form), patch.to_string().into()).await
    }

    /// What has to be merged.
    pub async fn merged(&self, path: &str, patch: &Value) -> Value {
        let (code, merged) = self.patch(path, MERGE, patch).await;
        assert_eq!(code, 200, "PATCH {path}: {merged}");
        merged
    }

    pub async fn delete(&self, path: &str, options: &Value) -> (u16, Value) {
        self.ask(
            Request::delete(path).header("content-type", "application/json"),
            options.to_string().into(),
        )
        .await
    }

    /// Sends a request; the answer is a document, or else its text.
    pub async fn ask(&self, request: http::request::Builder, body: Vec<u8>) -> (u16, Value) {
        let answer = self.client.send(request.body(Body::from(body)).unwrap()).await.unwrap();
        let code = answer.status().as_u16();
        (code, document(&answer.into_body().collect().await.unwrap().to_bytes()))
    }

    /// The events of a watch that is asked for some seconds.
    pub async fn watch(&self, path: &str) -> Vec<Value> {
        let request = Request::get(format!("{path}&watch=true&timeoutSeconds=2"))
            .body(Body::empty())
            .unwrap();
        let body = self.client.send(request).await.unwrap().into_body().collect();
        if let Place::Simulated(simulator) = &self.place {
            // The watch ends in its time, which somebody has to move.
            simulator.clock().advance(Duration::from_secs(2));
        }
        let bytes = body.await.unwrap().to_bytes();
        bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(document).collect()
    }

    /// Looks until it is so.
    pub async fn eventually(&self, what: &str, mut look: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        let mut looks = 0;
        while !look().await {
            looks += 1;
            match &self.place {
                Place::Simulated(simulator) => {
                    assert!(
                        looks < TIMEOUT.as_secs(),
                        "{what}: not within {TIMEOUT:?} of the simulator's time"
                    );
                    simulator.clock().advance(Duration::from_secs(1));
                }
                Place::Real(_) => {
                    assert!(began.elapsed() < TIMEOUT, "{what}: not within {TIMEOUT:?}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// The path of the log of a pod that has written some lines over some seconds.
    pub async fn log(&self) -> String {
        let Place::Real(folder) = &self.place else {
            let pods =
                self.found("/api/v1/namespaces/media/pods?labelSelector=app%3Dimporter").await;
            return format!(
                "/api/v1/namespaces/media/pods/{}/log",
                pods["items"][0]["metadata"]["name"].as_str().unwrap()
            );
        };
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "talker"}, "spec": {"containers": [{"name": "talker", "image": "talker"}]}});
        self.made(&self.path("v1/pods"), &pod).await;
        let file = folder.join("talker.log");
        let lines: String = (0..9)
            .map(|n| format!("2026-08-20T10:00:0{n}.5{n}0000000Z stderr F line {n}\n"))
            .collect();
        std::fs::write(&file, lines).unwrap();
        let logs = json!({"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Logs", "metadata": {"name": "talker"},
            "spec": {"logs": [{"containers": ["talker"], "logsFile": file}]}});
        self.made(&self.path("kwok.x-k8s.io/v1alpha1/logs"), &logs).await;
        let path = format!("{}/talker/log", self.path("v1/pods"));
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
    let spec = json!({"interval": "1h0m0s", "prune": true, "path": "./apps", "sourceRef": {"kind": "GitRepository", "name": "absent"}});
    json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": name}, "spec": spec})
}

pub const KUSTOMIZATIONS: &str = "kustomize.toolkit.fluxcd.io/v1/kustomizations";
pub const SOURCES: &str = "volsync.backube/v1alpha1/replicationsources";

pub fn source(name: &str) -> Value {
    json!({"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "metadata": {"name": name}, "spec": {"sourcePVC": name, "paused": true}})
}
