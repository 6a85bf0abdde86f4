//! Documents and calls from a seed: a few names, so that they often match, and every trick that a
//! name could try.

use salve_core::capability::{Capability, Effect};
use salve_core::grants::{Grant, Grants, Layer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Documents in the forms of product and oracle, and calls under them.
pub struct Scene {
    pub grants: Grants,
    pub documents: Value,
    pub calls: Vec<Value>,
}

/// SplitMix64 (Steele, Lea, and Flood, 2014).
pub struct Generator {
    state: u64,
    /// Grants by their JSON.
    parsed: BTreeMap<String, Grant>,
}

const WRITES: [&str; 4] =
    ["suspend-flux", "reconcile-flux", "delete-replicationsources", "restart-deployment"];
const NAMESPACES: [&str; 4] = ["media", "ai", "rook-ceph", "flux-system"];
const NAMES: [&str; 5] = ["plex", "sonarr", "a", "csi-provisioner", "plex.v1"];
const TRICKS: [&str; 14] = [
    "..",
    "",
    "media/../ai",
    "media%2fsecrets",
    "media\u{0}",
    "Media",
    "m\u{e9}dia",
    "media ",
    "*",
    "media/pods",
    "-a",
    "a-",
    "\u{202e}media",
    "a..b",
];
const GLOBS: [&str; 10] =
    ["*", "media", "ai", "m*", "?i", "[am]*", "[!m]*", "{ai,media}", "rook-ceph", "flux-*"];
const NAME_GLOBS: [&str; 8] =
    ["*", "plex", "p*", "s?narr", "*-provisioner", "{plex,a}", "[ap]*", "plex.v1"];
/// Kinds as calls name them, and as manifests do.
const FLUX: [(&str, &str); 5] = [
    ("kustomization", "Kustomization"),
    ("helm-release", "HelmRelease"),
    ("git-repository", "GitRepository"),
    ("oci-repository", "OCIRepository"),
    ("bucket", "Bucket"),
];
const SUBJECTS: [&str; 3] = ["replication-source", "persistent-volume-claim", "deployment"];
/// Kinds as grants name them.
const FLUX_GLOBS: [&str; 7] = [
    "kustomizations.kustomize.toolkit.fluxcd.io",
    "helmreleases.helm.toolkit.fluxcd.io",
    "gitrepositories.source.toolkit.fluxcd.io",
    "ocirepositories.source.toolkit.fluxcd.io",
    "buckets.source.toolkit.fluxcd.io",
    "*.source.toolkit.fluxcd.io",
    "{helmreleases,kustom*}.*",
];
const SUBJECT_GLOBS: [&str; 4] =
    ["replicationsources.volsync.backube", "persistentvolumeclaims", "deployments.apps", "*.apps"];
const WORKLOADS: [&str; 5] = ["deployment", "daemon-set", "stateful-set", "job", "pod"];
const WORKLOAD_GLOBS: [&str; 4] = ["deployments.apps", "daemonsets.apps", "*.apps", "pods"];
const RESOURCES: [(&str, &str); 7] = [
    ("", "namespaces"),
    ("batch", "jobs"),
    ("", "secrets"),
    ("", "pods/exec"),
    ("", "Secrets"),
    ("batch", "secrets"),
    ("b..c", "jobs"),
];
const RESOURCE_GLOBS: [&str; 5] = ["namespaces", "jobs.batch", "*", "secrets", "*.batch"];

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), parsed: BTreeMap::new() }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one(&mut self, of: &[&'static str]) -> &'static str {
        of[self.below(of.len() as u64) as usize]
    }

    fn flux_kind(&mut self) -> &'static str {
        FLUX[self.below(FLUX.len() as u64) as usize].0
    }

    fn some(&mut self, of: &[&'static str], most: u64) -> Vec<&'static str> {
        (0..=self.below(most)).map(|_| self.one(of)).collect()
    }

    /// Returns true in one of `n` cases.
    fn rarely(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn scene(&mut self, calls: usize) -> Scene {
        let layers: Vec<(Layer, Value)> =
            (0..[1, 1, 1, 2, 2, 3, 0][self.below(7) as usize]).map(|_| self.layer()).collect();
        let (layers, documents): (Vec<Layer>, Vec<Value>) = layers.into_iter().unzip();
        Scene {
            grants: Grants { layers },
            documents: documents.into(),
            calls: (0..calls).map(|_| self.call()).collect(),
        }
    }

    pub fn layer(&mut self) -> (Layer, Value) {
        let grants: Vec<(Grant, Value)> = (0..4 + self.below(12)).map(|_| self.grant()).collect();
        let (grants, documents): (Vec<Grant>, Vec<Value>) = grants.into_iter().unzip();
        (Layer { source: "generated".into(), grants }, documents.into())
    }

    pub fn grant(&mut self) -> (Grant, Value) {
        let capabilities: Vec<&str> = Capability::grantable().map(Capability::name).collect();
        let capability = self.one(&capabilities);
        let mut grant = json!({"capability": capability});
        if !self.rarely(8) {
            grant["namespaces"] = json!(self.some(&GLOBS, 2));
        }
        if self.rarely(2) {
            grant["names"] = json!(self.some(&NAME_GLOBS, 2));
        }
        match capability {
            "query-objects" => grant["kinds"] = json!(self.some(&RESOURCE_GLOBS, 2)),
            "query-flux" if self.rarely(2) => {
                let kinds = [FLUX_GLOBS.as_slice(), &SUBJECT_GLOBS].concat();
                grant["kinds"] = json!(self.some(&kinds, 4))
            }
            "tail-logs" if self.rarely(2) => grant["kinds"] = json!(self.some(&WORKLOAD_GLOBS, 2)),
            "suspend-flux" | "reconcile-flux" if self.rarely(2) => {
                grant["kinds"] = json!(self.some(&FLUX_GLOBS, 3))
            }
            _ => {}
        }
        let max = match capability {
            "delete-replicationsources" => "deletions",
            "restart-deployment" => "restarts",
            "suspend-flux" => "suspensions",
            _ => "",
        };
        if !max.is_empty() && self.rarely(2) {
            grant["max"] = json!({max: self.below(12)});
        }
        if WRITES.contains(&capability) && self.rarely(2) {
            grant["approval"] = json!("required");
        }
        if WRITES.contains(&capability) && self.rarely(5) {
            grant["evidence"] = if self.rarely(6) {
                json!({"pendingPvcs": 1})
            } else {
                let pattern = self.one(&["*", "line*", "*1", "line ?", "other"]);
                json!({"logLines": [{"pattern": pattern, "min": 1 + self.below(4)}]})
            };
        }
        if WRITES.contains(&capability) && self.rarely(3) {
            grant["labelSelector"] =
                json!(self.one(&["app=plex", "!keep", "app!=plex", "keep", "app=plex,!keep"]));
        }
        if capability == "delete-replicationsources" && self.rarely(3) {
            grant["movers"] = json!(self.some(&["restic", "rsync-tls", "syncthing"], 2));
        }
        // Compiling globs takes longer than everything else here.
        let parsed = self
            .parsed
            .entry(grant.to_string())
            .or_insert_with(|| serde_json::from_value(grant.clone()).expect("it is a grant"));
        (parsed.clone(), grant)
    }

    fn namespace(&mut self) -> &'static str {
        if self.rarely(40) { self.one(&TRICKS) } else { self.one(&NAMESPACES) }
    }

    fn name(&mut self) -> &'static str {
        if self.rarely(40) { self.one(&TRICKS) } else { self.one(&NAMES) }
    }

    fn object(&mut self) -> Value {
        json!({"namespace": self.namespace(), "name": self.name()})
    }

    fn flux(&mut self) -> Value {
        json!({"kind": self.flux_kind(), "namespace": self.namespace(), "name": self.name()})
    }

    fn set(&mut self, make: fn(&mut Self) -> Value) -> Vec<Value> {
        (0..[1, 1, 1, 2, 3, 0][self.below(6) as usize]).map(|_| make(self)).collect()
    }

    pub fn call(&mut self) -> Value {
        let kind = |of: (&str, &str)| json!({"group": of.0, "resource": of.1});
        let place = if self.rarely(3) { Value::Null } else { json!(self.namespace()) };
        let resource = RESOURCES[self.below(RESOURCES.len() as u64) as usize];
        let namespaces: Vec<&str> = (0..self.below(3)).map(|_| self.namespace()).collect();
        let (call, with) = match self.below(16) {
            0 => {
                let subject = |generator: &mut Self| {
                    let kind = generator.one(&SUBJECTS);
                    json!({"kind": kind, "object": generator.object()})
                };
                ("query-flux.find-owners", json!({"subjects": self.set(subject)}))
            }
            1 => ("query-flux.get", json!({"target": self.flux()})),
            2 => ("query-replicationsources.list-sources", json!({"namespaces": namespaces})),
            3 => ("query-pvcs.list-pvcs", json!({"namespaces": namespaces})),
            4 if self.rarely(2) => {
                ("query-pvcs.list-other-volumes", json!({"namespaces": namespaces, "driver": "d"}))
            }
            4 => ("query-pvcs.list-snapshots", json!({"namespaces": namespaces})),
            5 => ("query-pods.list-pods", json!({"namespaces": namespaces})),
            6 => (
                "query-drivers.find",
                json!({"selector": {"name": "d"}, "namespace": self.namespace()}),
            ),
            7 => (
                "query-objects.list-objects",
                json!({"kind": kind(resource), "namespace": place, "limit": 10}),
            ),
            8 => (
                "query-objects.get",
                json!({"kind": kind(resource), "namespace": place, "name": self.name()}),
            ),
            9 => {
                let kind = self.one(&WORKLOADS);
                let workload = json!({"kind": kind, "object": self.object()});
                let query = json!({"workload": workload, "container": "c", "limit_bytes": 1});
                ("tail-logs.next", json!({"query": query, "after": []}))
            }
            10 => (
                "suspend-flux.suspend",
                json!({"targets": self.set(Self::flux), "reason": "r", "drain_seconds": 1}),
            ),
            11 => (
                "suspend-flux.resume",
                json!({
                    "target": {"kind": "bucket", "namespace": "media", "name": "a"},
                    "uid": "u",
                    "previous": "absent",
                }),
            ),
            12 => (
                "reconcile-flux.reconcile",
                json!({"target": self.flux(), "force": false, "wait_seconds": 1}),
            ),
            13 => {
                let target = |generator: &mut Self| {
                    let object = generator.object();
                    json!({"object": object, "uid": "u", "digest": "d"})
                };
                (
                    "delete-replicationsources.delete",
                    json!({"set": self.set(target), "pacing": {"batch_size": 1, "interval_ms": 0}}),
                )
            }
            14 => (
                "restart-deployment.restart",
                json!({"target": self.object(), "uid": "u", "strategy": "annotate"}),
            ),
            _ => {
                let restarted = json!({"at": 1, "old_pods": []});
                (
                    "restart-deployment.await-rollout",
                    json!({
                        "target": self.object(),
                        "restarted": restarted,
                        "leases": [],
                        "wait_seconds": 1,
                    }),
                )
            }
        };
        json!({"call": call, "with": with})
    }

    /// Returns the objects that are read for a call: most of its targets, with various labels and
    /// movers.
    pub fn objects(&mut self, call: &Value) -> Vec<Value> {
        const WITH_OBJECTS: [&str; 4] = [
            "suspend-flux.suspend",
            "reconcile-flux.reconcile",
            "delete-replicationsources.delete",
            "restart-deployment.restart",
        ];
        let with = &call["with"];
        // Only writes read objects before they are sent.
        if !WITH_OBJECTS.iter().any(|write| call["call"] == *write) {
            return vec![];
        }
        let mut places: Vec<Value> = [&with["targets"], &with["set"]]
            .into_iter()
            .filter_map(Value::as_array)
            .flatten()
            .cloned()
            .collect();
        places.extend(with.get("target").cloned());
        let mut objects = vec![];
        for place in places {
            // Objects of a set that are already done are not read. A single object always is.
            if with.get("target").is_none()
                && with.pointer("/set/1").or(with.pointer("/targets/1")).is_some()
                && self.rarely(8)
            {
                continue;
            }
            let names = place.get("object").unwrap_or(&place);
            let mut labels = json!({});
            if self.rarely(2) {
                labels["app"] = json!(self.one(&["plex", "sonarr"]));
            }
            if self.rarely(3) {
                labels["keep"] = json!("");
            }
            let mut spec = json!({});
            for mover in ["restic", "rsyncTLS", "syncthing"] {
                if self.rarely(2) {
                    spec[mover] = json!({});
                }
            }
            let kind = match place["kind"].as_str() {
                Some(kind) => FLUX.iter().find(|(name, _)| *name == kind).expect("a Flux kind").1,
                None if call["call"] == "delete-replicationsources.delete" => "ReplicationSource",
                None => "Deployment",
            };
            let metadata =
                json!({"namespace": names["namespace"], "name": names["name"], "labels": labels});
            objects.push(json!({"kind": kind, "metadata": metadata, "spec": spec}));
        }
        objects
    }

    /// Returns a read of a log, its answer with a few lines, some of them repeated, and the lines.
    pub fn log_page(&mut self) -> (Effect, Box<RawValue>, Vec<String>) {
        let lines: Vec<String> =
            (0..self.below(3)).map(|_| format!("line {}", self.below(4))).collect();
        let query = json!({
            "workload": {
                "kind": "deployment",
                "object": {"namespace": "media", "name": "a"},
            },
            "container": "c",
            "limit_bytes": 1,
        });
        let effect = serde_json::from_value(
            json!({"call": "tail-logs.next", "with": {"query": query, "after": []}}),
        )
        .expect("it is an effect");
        let found: Vec<Value> =
            lines.iter().map(|text| json!({"pod": "p", "time": 1, "text": text})).collect();
        let page = json!({
            "lines": found,
            "pods": ["p"],
            "unreadable": [],
            "lines_read": 9,
            "more": false,
            "position": [],
        });
        (effect, serde_json::value::to_raw_value(&page).expect("it is JSON"), lines)
    }
}
