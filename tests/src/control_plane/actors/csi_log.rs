//! The logs of the CSI controller's pods: a file for each container, served by the pretended kubelet.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::cluster::{Cluster, text};

/// The containers of the controller's pods.
pub const CONTAINERS: [&str; 5] =
    ["csi-provisioner", "csi-resizer", "csi-attacher", "csi-snapshotter", "csi-rbdplugin"];

/// The log files of one pod.
pub struct PodLog {
    folder: PathBuf,
}

impl PodLog {
    /// Empty files for the containers of this pod, and the word to the pretended kubelet where they are.
    pub async fn open(cluster: &Cluster, folder: &Path, pod: &Value) -> Result<PodLog> {
        let log = PodLog { folder: folder.join(text(pod, "/metadata/uid")) };
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
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod["metadata"]["uid"]},
                ],
            },
            "spec": {"logs": logs},
        });
        cluster.apply(&document).await?;
        Ok(log)
    }

    /// The plugin rejects a call because of this key: two lines of klog, one of the handler and one of its caller.
    pub fn reject(&self, call: u64, key: &str) -> Result<()> {
        // The handler of snapshots says so, and still answers "Volume ID".
        let (place, family) =
            if key.starts_with("snapshot-") { (1161, "Snapshot") } else { (362, "Volume") };
        let who = format!("ID: {call} Req-ID: {key}");
        let lock =
            |family: &str| format!("an operation with the given {family} ID {key} already exists");
        self.write(
            "csi-rbdplugin",
            'E',
            &format!("controllerserver.go:{place}] {who} {}", lock(family)),
        )?;
        let answer = format!(
            "utils.go:271] {who} GRPC error: rpc error: code = Aborted desc = {}",
            lock("Volume")
        );
        self.write("csi-rbdplugin", 'E', &answer)
    }

    /// A sidecar or the plugin says something: severity, then `file.go:line] text`.
    pub fn write(&self, container: &str, severity: char, words: &str) -> Result<()> {
        let now = Timestamp::now();
        let klog = now.strftime("%m%d %H:%M:%S%.6f");
        // The form of the container runtime: when, which stream, whole or in part, what.
        let line = format!(
            "{} stderr F {severity}{klog}       1 {words}\n",
            now.strftime("%Y-%m-%dT%H:%M:%S%.9fZ")
        );
        OpenOptions::new().append(true).open(self.file(container))?.write_all(line.as_bytes())?;
        Ok(())
    }

    fn file(&self, container: &str) -> PathBuf {
        self.folder.join(format!("{container}.log"))
    }
}
