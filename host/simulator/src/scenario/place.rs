//! Adds the objects of a scenario to a cluster, after checking them.

use std::collections::BTreeMap;

use salve_document::schema::{denote_null, visit};
use salve_document::{DocumentError, Schema, suggestion};
use serde_json::{Value, json};

use super::builder::Builder;
use super::cluster::Cluster;
use super::document::ObjectReference;
use super::source::Place;
use crate::actors::definitions::establish;
use crate::api::patch;
use crate::kind::{self, Kind};
use crate::object::{list, text};
use crate::store::Key;
use crate::world::World;

/// Adds objects to a cluster.
pub struct Placing<'a> {
    pub world: &'a mut World,
    /// Whether objects of kinds that are not served are left out.
    pub leaves_out_unknown_kinds: bool,
    /// The schemas of CustomResourceDefinitions, by group, version, and kind.
    schemas: BTreeMap<[String; 3], Option<Schema>>,
    pub errors: Vec<DocumentError>,
}

impl<'a> Placing<'a> {
    pub fn new(world: &'a mut World) -> Self {
        Placing {
            world,
            leaves_out_unknown_kinds: false,
            schemas: BTreeMap::new(),
            errors: Vec::new(),
        }
    }

    /// Adds objects, or merges them into existing ones: CustomResourceDefinitions first.
    pub fn place_all(&mut self, objects: &[(Place, Value)]) {
        let is_crd = |object: &Value| object["kind"] == "CustomResourceDefinition";
        for (place, object) in objects.iter().filter(|(_, object)| is_crd(object)) {
            self.place(place, object);
        }
        for (place, object) in objects.iter().filter(|(_, object)| !is_crd(object)) {
            self.place(place, object);
        }
    }

    fn place(&mut self, place: &Place, object: &Value) {
        let Some(kind) = self.kind_of(place, object) else { return };
        let key = Key::of(kind, object);
        let mut merged = self.world.get(&key).map_or_else(|| json!({}), |old| (*old).clone());
        patch::merge(&mut merged, object);
        if !self.is_valid(kind, place, &merged) {
            return;
        }
        if kind.namespaced {
            self.ensure_namespace(&key.namespace);
        }
        let now = self.world.now;
        let mut builder = Builder::new(self.world, Cluster::default());
        let mut placed = builder.place(merged);
        if kind == kind::CRDS {
            establish(&mut placed, now);
            self.world.kinds.serve(&placed);
            self.world.store.seed(key.clone(), placed);
            self.schemas.clear();
        }
        self.world.script.pinned.insert(key);
    }

    /// Returns the kind of an object whose identity is complete and of a kind that is served.
    /// Otherwise, adds an error.
    pub fn kind_of(&mut self, place: &Place, object: &Value) -> Option<&'static Kind> {
        match self.find_kind(place, object) {
            Ok(kind) => kind,
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    fn find_kind(
        &mut self,
        place: &Place,
        object: &Value,
    ) -> Result<Option<&'static Kind>, DocumentError> {
        let (version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
        let name = text(object, "/metadata/name");
        for (key, value) in [("apiVersion", version), ("kind", kind), ("metadata.name", name)] {
            if value.is_empty() {
                return Err(place.error(&format!("{}{key} is missing", prefix(place))));
            }
        }
        let namespace = text(object, "/metadata/namespace");
        let described = describe(kind, namespace, name);
        // mutant secret-in-scenario: (version, kind) == ("v1", "Secret") ~> false
        if (version, kind) == ("v1", "Secret") {
            return Err(place.error(&format!(
                "{described}: Salve never reads Secrets, and a simulated cluster does not serve \
                 their content; remove it"
            )));
        }
        let group = version.split_once('/').map_or("", |(group, _)| group);
        self.world.kinds.serve_built_in(group);
        let Some(found) = self.world.kinds.of(object) else {
            if self.leaves_out_unknown_kinds {
                let kind = format!("{kind} of {version}");
                *self.world.script.left_out.entry(kind).or_default() += 1;
                return Ok(None);
            }
            return Err(place.error(&format!("{described}: {}", self.unknown(version, kind))));
        };
        match (found.namespaced, namespace.is_empty()) {
            (true, true) => {
                Err(place.error(&format!("{described}: metadata.namespace is missing")))
            }
            (false, false) => Err(place.error(&format!(
                "{described}: {} are not namespaced; remove metadata.namespace",
                found.qualified()
            ))),
            (true, false) | (false, true) => Ok(Some(found)),
        }
    }

    /// Describes why a kind is not served.
    fn unknown(&self, version: &str, kind: &str) -> String {
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let kinds: Vec<&Kind> =
            self.world.kinds.iter().filter(|known| known.group == group).collect();
        let versions: Vec<String> = kinds
            .iter()
            .filter(|known| known.kind == kind)
            .map(|known| known.api_version())
            .collect();
        if !versions.is_empty() {
            return format!("{version} is not served; served versions: {}", versions.join(", "));
        }
        let known: Vec<&str> = kinds.iter().map(|known| known.kind).collect();
        if known.is_empty() {
            return format!(
                "no kind {kind} of {version} is served; add its CustomResourceDefinition"
            );
        }
        format!("no kind {kind} of {version} is served{}", suggestion(kind, &known, "served kinds"))
    }

    /// Checks an object against the schema of its CustomResourceDefinition.
    fn is_valid(&mut self, kind: &'static Kind, place: &Place, object: &Value) -> bool {
        let key = [kind.group, kind.version, kind.kind].map(str::to_owned);
        let world = &*self.world;
        let schema = self.schemas.entry(key).or_insert_with(|| schema_of(world, kind));
        let Some(schema) = schema.as_ref().filter(|schema| !schema.is_valid(object)) else {
            return true;
        };
        let faults = place.read().map(|part| schema.faults(&part)).unwrap_or_default();
        let described = describe_object(object);
        let named: Vec<(u64, String)> = faults
            .into_iter()
            .map(|(line, text)| {
                (line, format!("{described} contradicts its CustomResourceDefinition: {text}"))
            })
            .collect();
        let otherwise = format!("{described} contradicts its CustomResourceDefinition");
        self.errors.push(place.faults(named, &otherwise));
        false
    }

    fn ensure_namespace(&mut self, name: &str) {
        if self.world.get(&Key::new(kind::NAMESPACES, "", name)).is_none() {
            Builder::new(self.world, Cluster::default()).place(namespace(name));
        }
    }

    /// Returns the key of a reference. Otherwise, adds an error.
    pub fn key_of(&mut self, place: &Place, reference: &ObjectReference) -> Option<Key> {
        let mut object = json!({
            "apiVersion": reference.api_version, "kind": reference.kind,
            "metadata": {"name": reference.name},
        });
        if let Some(namespace) = &reference.namespace {
            object["metadata"]["namespace"] = namespace.clone().into();
        }
        let kind = self.kind_of(place, &object)?;
        Some(Key::of(kind, &object))
    }
}

/// Returns an active Namespace.
pub fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
        "status": {"phase": "Active"},
    })
}

fn describe_object(object: &Value) -> String {
    let field = |pointer| text(object, pointer);
    describe(field("/kind"), field("/metadata/namespace"), field("/metadata/name"))
}

fn describe(kind: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        format!("{kind} {name}")
    } else {
        format!("{kind} {namespace}/{name}")
    }
}

fn prefix(place: &Place) -> String {
    let path = place.path();
    if path.is_empty() { path } else { format!("{path}: ") }
}

/// Returns the schema of a version of a kind, if its CustomResourceDefinition has one.
fn schema_of(world: &World, kind: &Kind) -> Option<Schema> {
    let crd = world.get(&Key::new(kind::CRDS, "", &kind.qualified()))?;
    let version = list(&crd, "/spec/versions")
        .iter()
        .find(|version| text(version, "/name") == kind.version)?;
    let mut schema = version.pointer("/schema/openAPIV3Schema")?.clone();
    visit(&mut schema, &mut denote_null);
    Schema::new(schema, &[]).ok()
}
