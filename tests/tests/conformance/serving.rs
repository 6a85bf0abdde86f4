//! Kinds of CustomResourceDefinitions, and built-in kinds that describe storage and nodes.

use crate::cluster::{Cluster, MERGE};
use serde_json::{Value, json};

/// Creates a CustomResourceDefinition in a group of the test's own, and waits until its kind is
/// served. Returns the group.
async fn define(c: &Cluster, scope: &str) -> String {
    let group = format!("{}.example.org", c.namespace);
    let schema = json!({"openAPIV3Schema": {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
            "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
        },
    }});
    let version = |name: &str, served: bool, storage: bool| {
        json!({
            "name": name, "served": served, "storage": storage, "schema": schema,
            "subresources": {"status": {}},
        })
    };
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {
                "kind": "Widget", "listKind": "WidgetList", "plural": "widgets",
                "singular": "widget", "shortNames": ["wi"],
            },
            "versions": [
                version("v1alpha1", false, false),
                version("v1beta1", true, false),
                version("v1", true, true),
            ],
        },
    });
    c.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd).await;
    for version in ["v1", "v1beta1"] {
        let path = format!("/apis/{group}/{version}/widgets");
        c.eventually("the kind is served", async || c.get(&path).await.0 == 200).await;
    }
    group
}

fn widget(group: &str, version: &str) -> Value {
    json!({
        "apiVersion": format!("{group}/{version}"),
        "kind": "Widget",
        "metadata": {"name": "one"},
        "spec": {"size": 1},
        "status": {"phase": "New"},
    })
}

pub async fn a_custom_kind_is_served_in_each_of_its_versions(c: Cluster) {
    let group = define(&c, "Namespaced").await;
    let found = c.get_ok(&format!("/apis/{group}")).await;
    let versions: Vec<_> =
        found["versions"].as_array().unwrap().iter().map(|one| one["version"].clone()).collect();
    assert_eq!(versions, [json!("v1"), json!("v1beta1")], "{found}");
    assert_eq!(found["preferredVersion"]["version"], "v1");
    let resources = c.get_ok(&format!("/apis/{group}/v1beta1")).await;
    let main = &resources["resources"][0];
    assert_eq!(
        (&main["name"], &main["kind"], &main["namespaced"], &main["shortNames"]),
        (&json!("widgets"), &json!("Widget"), &json!(true), &json!(["wi"]))
    );

    let path = |version: &str| c.path(&format!("{group}/{version}/widgets"));
    let created = c.create(&path("v1"), &widget(&group, "v1")).await;
    assert_eq!((created.get("status"), &created["metadata"]["generation"]), (None, &json!(1)));
    for version in ["v1", "v1beta1"] {
        let expected = json!(format!("{group}/{version}"));
        let object = c.get_ok(&format!("{}/one", path(version))).await;
        assert_eq!((&object["apiVersion"], &object["spec"]["size"]), (&expected, &json!(1)));
        let list = c.get_ok(&path(version)).await;
        assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("WidgetList"), &expected));
        assert_eq!(list["items"][0]["apiVersion"], expected);
    }
    let since = c.get_ok(&path("v1")).await["metadata"]["resourceVersion"].clone();
    let patched = c.merge(&format!("{}/one", path("v1beta1")), &json!({"spec": {"size": 2}})).await;
    assert_eq!(
        (&patched["apiVersion"], &patched["metadata"]["generation"]),
        (&json!(format!("{group}/v1beta1")), &json!(2))
    );
    let status = json!({"status": {"phase": "Ready"}});
    c.merge(&format!("{}/one/status", path("v1")), &status).await;
    let (code, _) = c.delete(&format!("{}/one", path("v1")), &json!({})).await;
    assert_eq!(code, 200);
    let watch = format!("{}?resourceVersion={}", path("v1"), since.as_str().unwrap());
    let events = c.watch(&watch).await;
    let seen: Vec<_> = events
        .iter()
        .map(|event| (event["type"].as_str().unwrap(), event["object"]["apiVersion"].clone()))
        .collect();
    let v1 = json!(format!("{group}/v1"));
    assert_eq!(
        seen,
        [("MODIFIED", v1.clone()), ("MODIFIED", v1.clone()), ("DELETED", v1)],
        "{events:#?}"
    );
}

pub async fn a_version_that_is_not_served_is_not_found(c: Cluster) {
    let group = define(&c, "Namespaced").await;
    let (code, _) = c.get(&c.path(&format!("{group}/v1alpha1/widgets"))).await;
    assert_eq!(code, 404);
    let (code, status) =
        c.post(&c.path(&format!("{group}/v1/widgets")), &widget(&group, "v1beta1")).await;
    assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")), "{status}");
}

pub async fn a_custom_kind_can_be_cluster_scoped(c: Cluster) {
    let group = define(&c, "Cluster").await;
    let path = format!("/apis/{group}/v1/widgets");
    let created = c.create(&path, &widget(&group, "v1")).await;
    assert_eq!(created["metadata"].get("namespace"), None);
    assert_eq!(c.get(&c.path(&format!("{group}/v1/widgets"))).await.0, 404);
    let resources = c.get_ok(&format!("/apis/{group}/v1")).await;
    assert_eq!(resources["resources"][0]["namespaced"], false);
    let (code, _) = c.delete(&format!("{path}/one"), &json!({})).await;
    assert_eq!((code, c.get(&format!("{path}/one")).await.0), (200, 404));
}

pub async fn a_kind_is_served_until_its_definition_is_deleted(c: Cluster) {
    let group = define(&c, "Namespaced").await;
    let crd = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{group}");
    let object = c.get_ok(&crd).await;
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let established = conditions.iter().find(|condition| condition["type"] == "Established");
    assert_eq!(established.unwrap()["status"], "True");
    assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(c.delete(&crd, &json!({})).await.0, 200);
    let path = c.path(&format!("{group}/v1/widgets"));
    c.eventually("the kind is not served", async || c.get(&path).await.0 == 404).await;
}

pub async fn a_volume_attachment_has_its_status_from_the_attacher(c: Cluster) {
    let path = "/apis/storage.k8s.io/v1/volumeattachments";
    let attachment = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttachment",
        "metadata": {"name": c.namespace},
        "spec": {
            "attacher": "attacher.example.org", "nodeName": "absent",
            "source": {"persistentVolumeName": "absent"},
        },
        "status": {"attached": true},
    });
    let created = c.create(path, &attachment).await;
    assert_eq!(created["status"], json!({"attached": false}), "{created}");
    let one = format!("{path}/{}", c.namespace);
    c.merge(&one, &json!({"status": {"attached": true}})).await;
    assert_eq!(c.get_ok(&one).await["status"]["attached"], false);
    let attached = json!({"status": {"attached": true}});
    assert_eq!(c.patch(&format!("{one}/status"), MERGE, &attached).await.0, 200);
    assert_eq!(c.get_ok(&one).await["status"]["attached"], true);
    let list = c.get_ok(path).await;
    assert_eq!(list["kind"], "VolumeAttachmentList");
    assert_eq!(c.delete(&one, &json!({})).await.0, 200);
}

pub async fn a_cron_job_can_be_suspended(c: Cluster) {
    let path = c.path("batch/v1/cronjobs");
    let template = json!({"spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "main", "image": "main"}],
    }}}});
    let cron_job = json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 3 1 1 *", "jobTemplate": template},
    });
    let created = c.create(&path, &cron_job).await;
    assert_eq!(created["metadata"]["generation"], 1);
    let one = format!("{path}/nightly");
    let suspended = c.merge(&one, &json!({"spec": {"suspend": true}})).await;
    assert_eq!(
        (&suspended["spec"]["suspend"], &suspended["metadata"]["generation"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(c.get_ok(&path).await["kind"], "CronJobList");
    assert_eq!(c.delete(&one, &json!({})).await.0, 200);
}

pub async fn a_node_is_created_with_its_status(c: Cluster) {
    let condition = |status: &str| {
        json!({
            "type": "Tested", "status": status, "reason": "Test",
            "lastHeartbeatTime": "2026-08-20T10:00:00Z",
            "lastTransitionTime": "2026-08-20T10:00:00Z",
        })
    };
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": c.namespace},
        "spec": {"unschedulable": true},
        "status": {"conditions": [condition("True")]},
    });
    let created = c.create("/api/v1/nodes", &node).await;
    let tested = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array().unwrap();
        conditions.iter().find(|one| one["type"] == "Tested").unwrap()["status"].clone()
    };
    assert_eq!(tested(&created), "True", "{created}");
    let one = format!("/api/v1/nodes/{}", c.namespace);
    let changed = json!({"status": {"conditions": [condition("False")]}});
    assert_eq!(c.patch(&one, crate::cluster::STRATEGIC, &changed).await.0, 200);
    assert_eq!(tested(&c.get_ok(&one).await), "True");
    let status = format!("{one}/status");
    assert_eq!(c.patch(&status, crate::cluster::STRATEGIC, &changed).await.0, 200);
    assert_eq!(tested(&c.get_ok(&one).await), "False");
    assert_eq!(c.delete(&one, &json!({})).await.0, 200);
}
