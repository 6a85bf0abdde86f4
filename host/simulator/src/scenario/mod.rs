//! Scenarios: documents that say what a simulated cluster looks like and what happens in it.
//!
//! Reading order: `document` (the format), `load` (reads files and directories), `place` (adds the
//! objects), `compile` (adds the scripted part). The base cluster is built by `base`, in the state
//! that `cluster` describes.

mod apps;
mod backups;
mod base;
mod builder;
mod built_in;
mod cluster;
mod compile;
mod controller;
pub mod document;
mod flux;
mod importer;
pub mod installation;
mod load;
mod place;
mod source;
mod times;

use jiff::Timestamp;
use salve_document::{DocumentError, suggestion};
use serde_json::Value;

use crate::actors;
use crate::kind::Kinds;
use crate::script::START_TIME;
use crate::world::{World, signed};
use builder::Builder;
use cluster::Cluster;
use compile::Compiler;
use document::{Expect, ScenarioSpec};
use place::Placing;
use source::Place;

pub use built_in::{Incident, UnknownIncident};

/// A simulated cluster, what happens in it, and what Salve should find and do.
#[derive(Debug, Clone)]
pub struct Scenario {
    name: String,
    base: Base,
    /// The documents, each of which changes what the ones before it define.
    layers: Vec<Layer>,
}

/// What the first document of a scenario changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    HomeOps,
    Empty,
}

/// A document of a scenario.
#[derive(Debug, Clone)]
struct Layer {
    spec: ScenarioSpec,
    /// The place of `spec`.
    place: Place,
    /// The objects of `spec` and of other files.
    objects: Vec<(Place, Value)>,
    /// Whether the objects are the output of kubectl.
    is_dump: bool,
}

impl Scenario {
    pub fn name(&self) -> &str {
        &self.name
    }

    fn last(&self) -> &ScenarioSpec {
        &self.layers[self.layers.len() - 1].spec
    }

    /// Returns the description in one sentence.
    pub fn description(&self) -> &str {
        &self.last().description
    }

    /// Returns what Salve should find and do.
    pub fn expect(&self) -> &Expect {
        &self.last().expect
    }

    /// Returns the guest that handles it.
    pub fn guest(&self) -> &str {
        let mut layers = self.layers.iter().rev();
        layers.find_map(|layer| layer.spec.guest.as_deref()).unwrap_or("volsync-unlock")
    }

    /// Returns the configuration of the guest.
    pub fn configuration(&self) -> serde_json::Map<String, Value> {
        self.layers.iter().flat_map(|layer| layer.spec.configuration.clone()).collect()
    }

    /// Builds the cluster, at the time when the scenario starts.
    pub(crate) fn build(&self) -> Result<World, DocumentError> {
        let start = self.start()?;
        let mut world = World::new(start.saturating_sub(signed(START_TIME)).unwrap_or(start));
        match self.base {
            Base::HomeOps => base::place(&mut world, self.cluster()?),
            Base::Empty => self.place_empty(&mut world)?,
        }
        let mut placing = Placing::new(&mut world);
        let mut reactions = Vec::new();
        for layer in &self.layers {
            placing.leaves_out_unknown_kinds = layer.is_dump;
            placing.place_all(&layer.objects);
            let mut compiler = Compiler { placing: &mut placing, spec: layer.place.clone(), start };
            reactions.extend(compiler.compile(&layer.spec));
        }
        DocumentError::join(std::mem::take(&mut placing.errors))?;
        compile::check_loops(&reactions)?;
        world.script.reactions = reactions.into_iter().map(|(_, reaction)| reaction).collect();
        world.logs.sort();
        actors::start(&mut world);
        // Every controller has run once when the scenario starts.
        world.advance(START_TIME);
        Ok(world)
    }

    /// Places what every cluster has.
    fn place_empty(&self, world: &mut World) -> Result<(), DocumentError> {
        let with_cluster =
            self.layers.iter().find(|layer| !layer.is_dump && layer.place.has("/cluster"));
        if let Some(layer) = with_cluster {
            let place = layer.place.at("/cluster");
            return Err(place.error("spec.cluster needs the base home-ops"));
        }
        world.kinds = Kinds::without_custom();
        let mut builder = Builder::new(world, Cluster::default());
        for name in ["default", "kube-system"] {
            builder.place(place::namespace(name));
        }
        Ok(())
    }

    /// Returns the state of the base cluster.
    fn cluster(&self) -> Result<Cluster, DocumentError> {
        let apps: Vec<String> =
            base::all_apps().iter().map(|app| format!("{}/{}", app.namespace, app.name)).collect();
        let known: Vec<&str> = apps.iter().map(String::as_str).collect();
        let mut cluster = Cluster::default();
        for layer in &self.layers {
            if let Some(app) = layer.spec.cluster.apps.keys().find(|app| !apps.contains(app)) {
                let pointer = format!("/cluster/apps/{}", app.replace('/', "~1"));
                return Err(layer.place.at(&pointer).error(&format!(
                    "spec.cluster.apps: no app {app:?} in the base cluster{}",
                    suggestion(app, &known, "its apps")
                )));
            }
            cluster = layer.spec.cluster.over(&cluster);
        }
        Ok(cluster)
    }

    /// Returns the time at which the scenario starts.
    fn start(&self) -> Result<Timestamp, DocumentError> {
        let default: Timestamp = "2026-08-20T10:00:00Z".parse().expect("time is valid");
        let given = self.layers.iter().rev().find_map(|layer| {
            let start = layer.spec.start.as_deref()?;
            Some((layer.place.at("/start"), start))
        });
        match given {
            Some((place, _)) if self.base == Base::HomeOps => {
                Err(place.error("spec.start needs the base empty"))
            }
            Some((place, start)) => start
                .parse()
                .map_err(|_| place.error(&format!("spec.start: {start:?} is not a time"))),
            None if self.layers.iter().any(|layer| layer.is_dump) => {
                let objects = self.layers.iter().flat_map(|layer| &layer.objects);
                Ok(times::newest(objects.map(|(_, object)| object)).unwrap_or(default))
            }
            None => Ok(default),
        }
    }
}
