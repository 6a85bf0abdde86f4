//! The logs of the CSI controller pods: a file per container, served by kwok's kubelet.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::cluster::{Cluster, str_at};

/// The containers of the controller pods.
pub const CONTAINERS: [&str; 5] =
    ["csi-provisioner", "csi-resizer", "csi-attacher", "csi-snapshotter", "csi-rbdplugin"];

/// The log files of one pod.
pub struct PodLog {
    folder: PathBuf,
}

impl PodLog {
    /// Creates empty files for the containers of a pod and announces them to the kubelet.
    pub async fn open(cluster: &Cluster, folder: &Path, pod: &Value) -> Result<PodLog> {
        let log = PodLog { folder: folder.join(str_at(pod, "/metadata/uid")) };
        fs::create_dir_all(&log.folder)?;
        let mut logs = Vec::new();
        for container in CONTAINERS {
            fs::write(log.file(container), "")?;
            logs.push(
                json!({"containers": [container], "logsFile": log.file(container), "follow": true}),
            );
        }
        let name = &pod["metadata"]["name"];
        let document = json!({
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "Logs",
            "metadata": {
                "name": name,
                "namespace": pod["metadata"]["namespace"],
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod["metadata"]["uid"],
                }],
            },
            "spec": {"logs": logs},
        });
        cluster.apply(&document).await?;
        Ok(log)
    }

    /// Logs that the plugin rejects a call because `key` is locked: two klog lines, one of the
    /// handler and one of its caller.
    pub fn reject(&self, call: u64, key: &str) -> Result<()> {
        // The handler of snapshots logs "Snapshot ID" and responds with "Volume ID", too.
        let (line, kind) =
            if key.starts_with("snapshot-") { (1161, "Snapshot") } else { (362, "Volume") };
        let request = format!("ID: {call} Req-ID: {key}");
        let locked =
            |kind: &str| format!("an operation with the given {kind} ID {key} already exists");
        self.write(
            "csi-rbdplugin",
            'E',
            &format!("controllerserver.go:{line}] {request} {}", locked(kind)),
        )?;
        let response = format!(
            "utils.go:271] {request} GRPC error: rpc error: code = Aborted desc = {}",
            locked("Volume")
        );
        self.write("csi-rbdplugin", 'E', &response)
    }

    /// Appends a klog line to the log of a container. `message` is `file.go:line] text`.
    pub fn write(&self, container: &str, severity: char, message: &str) -> Result<()> {
        let now = Timestamp::now();
        let klog = now.strftime("%m%d %H:%M:%S%.6f");
        // The CRI format: time, stream, full or partial line, text.
        let line = format!(
            "{} stderr F {severity}{klog}       1 {message}\n",
            now.strftime("%Y-%m-%dT%H:%M:%S%.9fZ")
        );
        OpenOptions::new().append(true).open(self.file(container))?.write_all(line.as_bytes())?;
        Ok(())
    }

    fn file(&self, container: &str) -> PathBuf {
        self.folder.join(format!("{container}.log"))
    }
}
