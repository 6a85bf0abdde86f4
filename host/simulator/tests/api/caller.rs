//! A minimal client of the simulated API server.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use salve_simulator::{Body, Incident, Simulator};
use serde_json::Value;
use tower::{BoxError, ServiceExt};

pub const KUSTOMIZATIONS: &str = "/apis/kustomize.toolkit.fluxcd.io/v1";
pub const VOLSYNC: &str = "/apis/volsync.backube/v1alpha1";
pub const MERGE: &str = "application/merge-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";

pub struct Caller {
    pub cluster: Simulator,
}

impl Caller {
    pub fn new(incident: Incident) -> Self {
        Caller { cluster: Simulator::new(incident) }
    }

    pub fn advance(&self, seconds: u64) {
        self.cluster.clock().advance(Duration::from_secs(seconds));
    }

    pub async fn send(
        &self,
        request: http::request::Builder,
        body: &str,
    ) -> Result<http::Response<Body>, BoxError> {
        let body = Full::new(Bytes::from(body.to_owned()));
        let request =
            request.header("user-agent", "tester/1.0").body(body).expect("request is valid");
        self.cluster.clone().oneshot(request).await
    }

    pub async fn request(&self, request: http::request::Builder, body: &str) -> (u16, Value) {
        let response = self.send(request, body).await.expect("response");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("complete body").to_bytes();
        (
            status,
            serde_json::from_slice(&body)
                .unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into()),
        )
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.request(http::Request::get(path), "").await
    }

    pub async fn delete(&self, path: &str, options: &str) -> (u16, Value) {
        self.request(http::Request::delete(path), options).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.request(
            http::Request::post(path).header("content-type", "application/json"),
            &body.to_string(),
        )
        .await
    }

    pub async fn patch(&self, path: &str, media: &str, body: &Value) -> (u16, Value) {
        self.request(http::Request::patch(path).header("content-type", media), &body.to_string())
            .await
    }

    pub fn source(&self, namespace: &str, name: &str) -> Option<Value> {
        self.cluster.object("volsync.backube", "replicationsources", namespace, name)
    }

    pub fn phase(&self, namespace: &str, pvc: &str) -> String {
        let pvc = self.cluster.object("", "persistentvolumeclaims", namespace, pvc);
        pvc.map_or_else(
            || "gone".to_owned(),
            |pvc| pvc["status"]["phase"].as_str().unwrap_or("").to_owned(),
        )
    }

    /// Returns the PVCs that are Pending, as `namespace/name`.
    pub fn pending(&self) -> Vec<String> {
        let pvcs = self.cluster.objects("", "persistentvolumeclaims", None);
        let pending = pvcs.iter().filter(|pvc| pvc["status"]["phase"] == "Pending");
        let name = |pvc: &Value| {
            let metadata = &pvc["metadata"];
            format!(
                "{}/{}",
                metadata["namespace"].as_str().unwrap_or(""),
                metadata["name"].as_str().unwrap_or("")
            )
        };
        pending.map(name).collect()
    }

    /// Returns the UIDs of the CSI controller's pods.
    pub fn controller_pods(&self) -> Vec<String> {
        let pods = self.cluster.objects("", "pods", Some("rook-ceph"));
        let ours = pods.iter().filter(|pod| {
            pod["metadata"]["name"]
                .as_str()
                .is_some_and(|name| name.contains("provisioner") || name.contains("ctrlplugin"))
        });
        ours.map(|pod| pod["metadata"]["uid"].as_str().unwrap_or("").to_owned()).collect()
    }

    pub async fn restart_controller(&self) {
        let restart = serde_json::json!({"spec": {"template": {"metadata": {"annotations":
            {"kubectl.kubernetes.io/restartedAt": "2026-08-20T10:00:00Z"}}}}});
        let path = "/apis/apps/v1/namespaces/rook-ceph/deployments/csi-rbdplugin-provisioner";
        assert_eq!(self.patch(path, STRATEGIC, &restart).await.0, 200);
    }
}
