//! Scenarios from files: what they add to the cluster, and what is wrong with invalid ones.

use std::fs;

use salve_simulator::{Scenario, Simulator};
use serde_json::{Value, json};

use crate::caller::{Caller, MERGE};

const HEAD: &str =
    "apiVersion: salve.dev/v1alpha1\nkind: Scenario\nmetadata: {name: test}\nspec:\n";

/// Files in a folder of their own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("the folder is writable");
        }
        Folder(folder)
    }

    /// Builds the cluster of a file, or of the folder if the name is empty.
    fn load(&self, name: &str) -> Result<Simulator, String> {
        let path =
            if name.is_empty() { self.0.path().to_owned() } else { self.0.path().join(name) };
        let shorter = |error: salve_simulator::DocumentError| {
            error.to_string().replace(&format!("{}/", self.0.path().display()), "")
        };
        let scenario = Scenario::load(&path).map_err(shorter)?;
        Simulator::of(&scenario).map_err(shorter)
    }
}

/// Builds the cluster of a scenario, given by the lines of its `spec`.
fn scenario(spec: &str) -> Result<Simulator, String> {
    Folder::new(&[("s.yaml", &format!("{HEAD}{spec}"))]).load("s.yaml")
}

fn caller(spec: &str) -> Caller {
    Caller { cluster: scenario(spec).expect("the scenario is valid") }
}

#[tokio::test]
async fn an_object_is_added_to_the_base_or_merged_into_it() {
    let caller = caller(
        "  objects:
  - {apiVersion: v1, kind: Node, metadata: {name: node-2, labels: {zone: b}}, spec: {unschedulable: true}}
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: new, namespace: elsewhere}, data: {a: '1'}}
  removed:
  - {apiVersion: v1, kind: Node, name: node-3}
",
    );
    let node = caller.cluster.object("", "nodes", "", "node-2").expect("node");
    assert_eq!(
        (&node["metadata"]["labels"]["zone"], &node["spec"]["unschedulable"]),
        (&json!("b"), &json!(true))
    );
    assert_eq!(node["status"]["conditions"][0]["type"], "Ready", "the rest stays");
    assert!(caller.cluster.object("", "nodes", "", "node-3").is_none());
    assert!(caller.cluster.object("", "configmaps", "elsewhere", "new").is_some());
    assert!(caller.cluster.object("", "namespaces", "", "elsewhere").is_some());
}

#[tokio::test]
async fn controllers_leave_added_objects_alone_until_a_request_changes_them() {
    let pvc = |name: &str| {
        format!(
            "  - apiVersion: v1\n    kind: PersistentVolumeClaim\n    metadata: {{name: {name}, \
             namespace: media}}\n    spec: {{accessModes: [ReadWriteOnce], storageClassName: \
             ceph-block, resources: {{requests: {{storage: 1Gi}}}}}}\n    status: {{phase: Pending}}\n"
        )
    };
    let spec = format!(
        "  objects:\n{}{}  managed:\n  - {{apiVersion: v1, kind: PersistentVolumeClaim, namespace: media, name: two}}\n",
        pvc("one"),
        pvc("two")
    );
    let caller = caller(&spec);
    caller.advance(60);
    assert_eq!(
        (caller.phase("media", "one"), caller.phase("media", "two")),
        ("Pending".into(), "Bound".into())
    );
    let path = "/api/v1/namespaces/media/persistentvolumeclaims/one";
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(caller.patch(path, MERGE, &label).await.0, 200);
    caller.advance(60);
    assert_eq!(caller.phase("media", "one"), "Bound");
}

#[tokio::test]
async fn log_lines_have_absolute_relative_and_repeated_times() {
    let caller = caller(
        "  logs:
  - namespace: rook-ceph
    pod: rook-ceph-operator-*
    container: rook-ceph-operator
    lines:
    - {at: \"2026-08-20T09:00:00Z\", text: absolute}
    - {at: -5m, text: 'E{klog} relative'}
    - {every: 20s, from: -1m, until: 1m, text: repeated}
",
    );
    let pods = caller.cluster.objects("", "pods", Some("rook-ceph"));
    let name = pods
        .iter()
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .find(|name| name.starts_with("rook-ceph-operator-"))
        .expect("pod");
    let path = format!("/api/v1/namespaces/rook-ceph/pods/{name}/log?timestamps=true");
    let lines = async || {
        let (_, text) = caller.get(&path).await;
        text.as_str().unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let before = lines().await;
    assert_eq!(before[0], "2026-08-20T09:00:00.000000000Z absolute");
    assert_eq!(before[1], "2026-08-20T09:55:00.000000000Z E0820 09:55:00.000000 relative");
    assert_eq!(before.iter().filter(|line| line.ends_with(" repeated")).count(), 4, "{before:#?}");
    caller.advance(600);
    let after = lines().await;
    assert_eq!(after.iter().filter(|line| line.ends_with(" repeated")).count(), 7, "{after:#?}");
    assert!(after.is_sorted());
}

#[tokio::test]
async fn a_reaction_follows_a_request_or_a_time() {
    let caller = caller(
        "  reactions:
  - on: {verb: patch, resource: kustomizations.kustomize.toolkit.fluxcd.io, namespace: media, name: pl*}
    after: 10s
    revert: [/spec/suspend]
    create:
    - {apiVersion: v1, kind: ConfigMap, metadata: {name: reverted, namespace: media}}
  - on: {verb: delete, resource: configmaps}
    fail: 403
    times: 2
  - at: 5m
    delete:
    - {apiVersion: v1, kind: ConfigMap, namespace: media, name: reverted}
    patch:
    - {apiVersion: v1, kind: Node, metadata: {name: node-1}, spec: {unschedulable: true}}
    log:
    - {namespace: rook-ceph, pod: rook-ceph-operator-*, container: rook-ceph-operator, text: scripted}
",
    );
    let path = "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/media/kustomizations/plex";
    let suspend = async || {
        assert_eq!(caller.patch(path, MERGE, &json!({"spec": {"suspend": true}})).await.0, 200);
    };
    let suspended = async || caller.get(path).await.1["spec"].get("suspend").cloned();
    suspend().await;
    caller.advance(5);
    assert_eq!(suspended().await, Some(json!(true)), "not yet");
    caller.advance(10);
    assert_eq!(suspended().await, None);
    suspend().await;
    caller.advance(60);
    assert_eq!(suspended().await, Some(json!(true)), "it happens once");

    let map = "/api/v1/namespaces/media/configmaps/reverted";
    assert_eq!(caller.get(map).await.0, 200);
    for code in [403, 403] {
        assert_eq!(caller.delete(map, "").await.0, code);
    }
    assert_eq!(caller.get(map).await.0, 200, "a request that fails has no effect");
    caller.advance(300);
    assert_eq!(caller.get(map).await.0, 404);
    let node = caller.cluster.object("", "nodes", "", "node-1").expect("node");
    assert_eq!(node["spec"]["unschedulable"], true);
}

#[tokio::test]
async fn a_reaction_triggers_others() {
    let caller = caller(
        "  reactions:
  - at: 1m
    delete: [{apiVersion: v1, kind: Node, name: node-1}]
  - on: {verb: delete, resource: nodes}
    after: 1m
    create: [{apiVersion: v1, kind: Node, metadata: {name: node-9}, status: {phase: New}}]
",
    );
    caller.advance(90);
    assert!(caller.cluster.object("", "nodes", "", "node-9").is_none());
    caller.advance(60);
    let node = caller.cluster.object("", "nodes", "", "node-9").expect("node");
    assert_eq!(node["status"]["phase"], "New");
}

#[tokio::test]
async fn a_fault_affects_the_requests_that_it_names() {
    let caller = caller(
        "  faults:
  - {verb: list, path: /nodes, nth: 2, status: 503}
  - {path: /configmaps, first: 1, status: 429, retryAfter: 7}
",
    );
    let codes = [caller.get("/api/v1/nodes").await.0, caller.get("/api/v1/nodes").await.0];
    assert_eq!(codes, [200, 503]);
    let (code, status) = caller.get("/api/v1/configmaps").await;
    assert_eq!((code, &status["details"]["retryAfterSeconds"]), (429, &json!(7)));
    assert_eq!(caller.get("/api/v1/configmaps").await.0, 200);
}

#[tokio::test]
async fn a_scenario_extends_another_one_in_its_folder() {
    let folder = Folder::new(&[
        (
            "a.yaml",
            &format!(
                "{HEAD}  cluster: {{apps: {{media/plex: absent}}}}\n  guest: other\n  configuration: {{x: 1, y: 1}}\n"
            ),
        ),
        (
            "b.yaml",
            &format!(
                "{HEAD}  base: a\n  cluster: {{apps: {{media/radarr: absent}}}}\n  configuration: {{y: 2}}\n"
            ),
        ),
    ]);
    let scenario = Scenario::load(&folder.0.path().join("b.yaml")).expect("valid");
    assert_eq!(scenario.guest(), "other");
    assert_eq!(Value::Object(scenario.configuration()), json!({"x": 1, "y": 2}));
    let cluster = Simulator::of(&scenario).expect("valid");
    for app in ["plex", "radarr"] {
        assert!(cluster.object("", "persistentvolumeclaims", "media", app).is_none(), "{app}");
    }
    assert!(cluster.object("", "persistentvolumeclaims", "media", "bazarr").is_some());
}

#[tokio::test]
async fn the_output_of_kubectl_is_served() {
    let list = "apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: List
  items:
  - {apiVersion: volsync.backube/v1alpha1, kind: ReplicationSource, metadata: {name: a, namespace: media}, spec: {sourcePVC: a}, status: {lastSyncStartTime: \"2026-01-02T03:04:05Z\"}}
- {apiVersion: v1, kind: Pod, metadata: {name: p, namespace: media, creationTimestamp: \"2026-01-02T03:05:00Z\"}, status: {phase: Pending}}
- {apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: a, namespace: media}, status: {phase: Pending}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i, namespace: media}
--- # the last one
apiVersion: v1
kind: ConfigMapList
items:
- metadata: {name: c, namespace: media}
  data: {script: \"--- not a separator\"}
";
    let json = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "creationTimestamp": "2026-01-02T03:00:00Z"}}"#;
    let folder = Folder::new(&[("a.yaml", list), ("b.json", json), ("notes.txt", "not read")]);
    let cluster = folder.load("").expect("valid");
    assert_eq!(cluster.clock().now().to_string(), "2026-01-02T03:05:00Z", "the newest time");
    cluster.clock().advance(std::time::Duration::from_secs(3_600));
    let source = cluster.object("volsync.backube", "replicationsources", "media", "a").expect("a");
    assert_eq!(source["status"]["lastSyncStartTime"], "2026-01-02T03:04:05Z", "no controller acts");
    assert_eq!(cluster.object("", "pods", "media", "p").expect("p")["status"]["phase"], "Pending");
    assert!(cluster.object("", "configmaps", "media", "c").is_some());
    assert!(cluster.object("", "nodes", "", "n").is_some());
    assert_eq!(cluster.left_out(), [("Ingress of networking.k8s.io/v1".to_owned(), 1)]);
    let caller = Caller { cluster };
    assert_eq!(caller.get("/apis/volsync.backube/v1alpha1/replicationsources").await.0, 200);
    assert_eq!(caller.get("/apis/kustomize.toolkit.fluxcd.io/v1/kustomizations").await.0, 404);
}

#[test]
fn an_invalid_scenario_is_rejected_with_file_line_and_suggestion() {
    let mut cases = 0;
    let mut spec = String::new();
    for line in include_str!("invalid-scenarios.txt").lines().skip(1) {
        if let Some(expected) = line.strip_prefix("=> ") {
            let error = scenario(&spec).err().unwrap_or_else(|| panic!("accepted: {spec}"));
            assert!(error.contains(expected), "{spec}\n{error}\n{expected}");
            spec.clear();
            cases += 1;
        } else if !line.is_empty() {
            spec += &format!("{line}\n");
        }
    }
    assert!(cases > 30, "only {cases} cases");
}

#[test]
fn an_invalid_dump_is_rejected_with_its_file() {
    let secret = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: c, namespace: media}\n- apiVersion: v1\n  kind: List\n  items:\n  - apiVersion: v1\n    kind: Secret\n    metadata: {name: s, namespace: media}\n";
    for (files, expected) in [
        (vec![("a.yaml", secret)], "a.yaml:10: Secret media/s: Salve never reads Secrets"),
        (vec![("a.json", "{\"kind\": \"Pod\",\n}")], "a.json:2: invalid JSON"),
        (vec![("a.yaml", "- 1\n")], "a.yaml:1: expected an object"),
        (vec![("a.yaml", "kind: Pod\n---\na: [")], "a.yaml: "),
        (
            vec![(
                "a.yaml",
                "apiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: x}\n",
            )],
            "a.yaml:1: metadata.name is missing\na.yaml:4: metadata.name is missing",
        ),
        (vec![("a.txt", "")], "no objects; expected files that end with .yaml, .yml, or .json"),
    ] {
        let folder = Folder::new(&files);
        let error = folder.load("").err().unwrap_or_else(|| panic!("accepted: {files:?}"));
        assert!(error.contains(expected), "{files:?}\n{error}");
    }
    let two = format!("{HEAD}  description: one\n---\n{HEAD}  description: two\n");
    let error = Folder::new(&[("a.yaml", &two)]).load("").expect_err("rejected");
    assert!(error.contains("a.yaml:7: a second Scenario"), "{error}");
}

/// The size is checked before the files are read.
#[test]
fn a_dump_that_is_too_large_is_rejected() {
    let folder = Folder::new(&[("a.yaml", "apiVersion: v1\n")]);
    let large = fs::File::create(folder.0.path().join("b.yaml")).expect("a file");
    large.set_len(200 << 20).expect("a sparse file");
    let error = folder.load("").expect_err("rejected");
    assert!(
        error.contains("201 MiB of objects, and at most 64 MiB can be served; leave out"),
        "{error}"
    );
}
