//! The `Scenario` document.

use std::sync::LazyLock;

use salve_document::DocumentSchema;
use salve_document::schema::{PRESERVE_UNKNOWN, of_document, published, visit};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::cluster::Cluster;

/// What a simulated cluster looks like, what happens in it, and what Salve should find and do.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct ScenarioSpec {
    /// What is wrong in the cluster, in one sentence.
    pub description: String,
    /// What the scenario changes: `home-ops` (the default; a home cluster with Flux, Rook, VolSync,
    /// and 27 apps at 2026-08-20T10:00:00Z), `empty` (nothing but the namespaces default and
    /// kube-system), or another scenario: a built-in one, or one in the same directory.
    pub base: Option<String>,
    /// In which state the apps and the storage of `home-ops` are.
    pub cluster: Cluster,
    /// Time at the start, for example 2026-08-20T10:00:00Z. Only with the base `empty`.
    pub start: Option<String>,
    /// API groups that are not served, as if their CustomResourceDefinitions were not installed.
    pub uninstalled: Vec<String>,
    /// Objects with their status, which are added, or merged into the objects of the base: null
    /// removes a field. A CustomResourceDefinition serves its kind. Controllers do not reconcile
    /// these objects until a request changes them.
    #[schemars(schema_with = "objects_schema")]
    pub objects: Vec<Value>,
    /// Objects of those above that the simulated controllers reconcile.
    pub managed: Vec<ObjectReference>,
    /// Objects of the base that do not exist.
    pub removed: Vec<ObjectReference>,
    /// Lines in the logs of containers.
    pub logs: Vec<Log>,
    /// What happens after a request or at a time.
    pub reactions: Vec<Reaction>,
    /// Requests that fail.
    pub faults: Vec<Fault>,
    /// Guest that handles the scenario: a shipped one (volsync-unlock is the default).
    pub guest: Option<String>,
    /// Configuration of the guest.
    #[schemars(schema_with = "map_schema")]
    pub configuration: Map<String, Value>,
    /// What Salve should find and do. Each part starts with the scenario as it is here.
    pub expect: Expect,
}

/// An object by its identity.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ObjectReference {
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    pub kind: String,
    /// Omitted for cluster-scoped kinds.
    pub namespace: Option<String>,
    pub name: String,
}

/// Lines in the log of a container.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Namespace of the pods.
    pub namespace: String,
    /// Name of the pods; `*` stands for any text, as in `csi-rbdplugin-*` for the pods of a
    /// workload.
    pub pod: String,
    pub container: String,
    pub lines: Vec<Line>,
}

/// A line of a log, once or repeated.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// When it was written: a time, or a duration from the start, such as -5m.
    pub at: Option<String>,
    /// Interval at which it is repeated, as long as the pod exists.
    pub every: Option<String>,
    /// When a repeated line is written first: a time, or a duration from the start.
    pub from: Option<String>,
    /// When a repeated line is written last. Without it, it is repeated for 24 h.
    pub until: Option<String>,
    /// The line. `{klog}` stands for its time as klog writes it.
    pub text: String,
}

/// What happens after a request or at a time. A request that fails for another reason triggers
/// nothing. A reaction is also triggered by the writes of other reactions.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reaction {
    /// Requests after which it happens.
    pub on: Option<Requests>,
    /// Time at which it happens: a duration from the start, such as 5m.
    pub at: Option<String>,
    /// How often it happens at most. The default is once.
    #[schemars(range(min = 1, max = 1000))]
    pub times: Option<u32>,
    /// Time from the request to what follows.
    pub after: Option<String>,
    /// Status code with which the request fails, without any effect.
    #[schemars(range(min = 400, max = 599))]
    pub fail: Option<u16>,
    /// Objects to delete.
    pub delete: Vec<ObjectReference>,
    /// Objects to create, with their status.
    #[schemars(schema_with = "objects_schema")]
    pub create: Vec<Value>,
    /// Changes to merge into objects: null removes a field.
    #[schemars(schema_with = "objects_schema")]
    pub patch: Vec<Value>,
    /// Fields of the request's object to set back to their values before the request, as JSON
    /// pointers such as /spec/suspend.
    #[schemars(inner(regex(pattern = "^/")))]
    pub revert: Vec<String>,
    /// Lines for the logs of containers.
    pub log: Vec<LogLine>,
}

/// Requests, by verb and object.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    pub verb: Verb,
    /// Resource and group, as in replicationsources.volsync.backube.
    pub resource: String,
    /// Namespace; `*` stands for any text.
    pub namespace: Option<String>,
    /// Name; `*` stands for any text.
    pub name: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
        }
    }
}

/// A line for the log of a container.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLine {
    pub namespace: String,
    /// Name of the pods; `*` stands for any text.
    pub pod: String,
    pub container: String,
    /// The line. `{klog}` stands for its time as klog writes it.
    pub text: String,
}

/// Requests that fail.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Fault {
    /// Verb, such as list, or method, such as GET. Without it: any.
    pub verb: Option<String>,
    /// Part of the path and query.
    pub path: String,
    /// Which of the matching requests fails, counted from 1. Without it: all of them.
    #[schemars(range(min = 1))]
    pub nth: Option<u32>,
    /// How many of the matching requests fail, from the first one.
    #[schemars(range(min = 1))]
    pub first: Option<u32>,
    /// Whether the request takes effect nevertheless.
    pub after_applying: bool,
    /// Time until the response.
    pub delay: Option<String>,
    /// Status code of the response.
    #[schemars(range(min = 400, max = 599))]
    pub status: Option<u16>,
    /// Value of the header `Retry-After`, in seconds. Only with the status 429.
    pub retry_after: Option<u32>,
    /// Failure without a status code.
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The connection is closed without a response.
    ConnectionReset,
    /// The response is not JSON.
    InvalidBody,
    /// There is no response, and the connection stays open.
    NoResponse,
}

/// What Salve should find and do.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Expected of `salve check`.
    pub check: Option<Expected>,
    /// Expected of `salve plan`.
    pub plan: Option<Expected>,
    /// Expected of `salve run`.
    pub run: Option<Expected>,
}

/// An expected result. What is omitted may be anything.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Expected {
    /// For `check`: the state, such as incident, healthy, different-problem, or inconclusive. For
    /// `plan` and `run`: the verdict, such as planned or fixed.
    pub result: Option<String>,
    pub exit_code: Option<u8>,
    /// Texts that the first line contains.
    pub headline: Vec<String>,
    /// Texts that the report contains.
    pub report: Vec<String>,
    /// Writes that are sent, such as `delete replicationsources.volsync.backube media/sonarr`; `*`
    /// stands for any text.
    pub written: Vec<String>,
    /// Writes that are not sent; `*` stands for any text, and alone for all writes.
    pub not_written: Vec<String>,
}

/// The key of the configuration's values and of objects may be anything.
fn map_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", PRESERVE_UNKNOWN: true})
}

fn objects_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "object", PRESERVE_UNKNOWN: true}})
}

/// Returns the published schema.
pub fn schema() -> Value {
    let description = "A simulated cluster, what happens in it, and what Salve should find and do.";
    let mut schema = of_document::<ScenarioSpec>("Scenario", description);
    visit(&mut schema, &mut |node| {
        // What is omitted is empty.
        node.remove("default");
    });
    published("Scenario", schema)
}

/// The compiled schema.
pub static SCHEMA: LazyLock<DocumentSchema> = LazyLock::new(|| {
    DocumentSchema::new("Scenario", schema(), &[]).expect("a generated schema is valid")
});
