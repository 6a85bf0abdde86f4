//! Reads a scenario from a document, a file, or a directory, also from the output of
//! `kubectl get -o yaml`.

use std::fs;
use std::path::{Path, PathBuf};

use salve_document::{DocumentError, suggestion};
use serde_json::Value;

use super::built_in::Incident;
use super::document::{SCHEMA, ScenarioSpec};
use super::source::{Place, Source, documents, flatten};
use super::{Base, Layer, Scenario};

/// The largest size of all files together, in bytes.
const MAX_SIZE: u64 = 64 << 20;
/// The largest number of nodes of a document.
const MAX_NODES: usize = 20_000_000;

impl Scenario {
    /// Reads a file or a directory: a `Scenario`, objects, or both.
    ///
    /// # Errors
    /// A file cannot be read, is too large, or is invalid.
    pub fn load(path: &Path) -> Result<Scenario, DocumentError> {
        let files = files(path)?;
        let (mut scenario, mut objects) = (None, Vec::new());
        for file in &files {
            let name = file.display().to_string();
            let text = fs::read_to_string(file)
                .map_err(|error| DocumentError::of_file(&name, &error.to_string()))?;
            for (text, line) in split(file, text) {
                if is_scenario(&text) {
                    let folder = file.parent().unwrap_or(Path::new("."));
                    let read = Scenario::read(&text, &name, Some(folder), &[])?;
                    if scenario.is_some() {
                        let error = "a second Scenario; a directory has at most one";
                        return Err(DocumentError::at(&name, line, error));
                    }
                    scenario = Some(read);
                } else {
                    read_objects(&name, file, text, line, &mut objects)?;
                }
            }
        }
        match scenario {
            Some(mut scenario) => {
                let last = scenario.layers.len() - 1;
                scenario.layers[last].objects.extend(objects);
                Ok(scenario)
            }
            None => Scenario::of_dump(path, objects),
        }
    }

    /// Returns a scenario of objects alone.
    fn of_dump(path: &Path, objects: Vec<(Place, Value)>) -> Result<Scenario, DocumentError> {
        let Some((place, _)) = objects.first() else {
            let error = "no objects; expected files that end with .yaml, .yml, or .json";
            return Err(DocumentError::of_file(&path.display().to_string(), error));
        };
        let layer =
            Layer { spec: ScenarioSpec::default(), place: place.clone(), objects, is_dump: true };
        let name = path.file_stem().map_or_else(|| "dump".into(), |name| name.to_string_lossy());
        Ok(Scenario { name: name.into_owned(), base: Base::Empty, layers: vec![layer] })
    }

    /// Reads a `Scenario`. `folder` is where other scenarios are looked up, and `derived` are the
    /// scenarios for which it is the base.
    ///
    /// # Errors
    /// The document, or that of its base, is invalid.
    pub(super) fn read(
        text: &str,
        source: &str,
        folder: Option<&Path>,
        derived: &[&str],
    ) -> Result<Scenario, DocumentError> {
        let (_, document) = salve_document::read::<ScenarioSpec>(text, source, &SCHEMA)?;
        let name = document.metadata.name;
        let mut spec = document.spec;
        let whole = Place::document(Source::new(source, text.to_owned(), 1));
        let place = whole.at("/spec");
        let derived = [derived, &[name.as_str()]].concat();
        let (base, mut layers) = match spec.base.as_deref().unwrap_or("home-ops") {
            "home-ops" => (Base::HomeOps, Vec::new()),
            "empty" => (Base::Empty, Vec::new()),
            base => {
                let base = find_base(base, &place.at("/base"), folder, &derived)?;
                (base.base, base.layers)
            }
        };
        let mut objects = Vec::new();
        for (index, object) in std::mem::take(&mut spec.objects).into_iter().enumerate() {
            flatten(place.at(&format!("/objects/{index}")), object, &mut objects);
        }
        layers.push(Layer { spec, place, objects, is_dump: false });
        Ok(Scenario { name, base, layers })
    }
}

/// Returns another scenario: a built-in one, or one in the same directory.
fn find_base(
    name: &str,
    place: &Place,
    folder: Option<&Path>,
    derived: &[&str],
) -> Result<Scenario, DocumentError> {
    if derived.contains(&name) {
        return Err(place.error(&format!(
            "spec.base: these scenarios are based on each other: {} -> {name}",
            derived.join(" -> ")
        )));
    }
    if let Some(incident) = Incident::ALL.into_iter().find(|incident| incident.name() == name) {
        return Scenario::read(incident.text(), &format!("{incident}.yaml"), None, derived);
    }
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let file = folder.map(|folder| folder.join(format!("{name}.yaml")));
    if let Some(file) = file.filter(|file| is_name && file.is_file()) {
        let source = file.display().to_string();
        let text = fs::read_to_string(&file)
            .map_err(|error| DocumentError::of_file(&source, &error.to_string()))?;
        return Scenario::read(&text, &source, folder, derived);
    }
    let mut known = vec!["home-ops", "empty"];
    known.extend(Incident::ALL.map(Incident::name));
    let suggestion = suggestion(name, &known, "known scenarios");
    Err(place.error(&format!("spec.base: unknown scenario {name:?}{suggestion}")))
}

/// Returns the files of a scenario, by name, if they are not too large.
fn files(path: &Path) -> Result<Vec<PathBuf>, DocumentError> {
    let named = |path: &Path| path.display().to_string();
    let failed = |path: &Path, error: std::io::Error| {
        DocumentError::of_file(&named(path), &error.to_string())
    };
    let mut files = Vec::new();
    if fs::metadata(path).map_err(|error| failed(path, error))?.is_dir() {
        for entry in fs::read_dir(path).map_err(|error| failed(path, error))? {
            let file = entry.map_err(|error| failed(path, error))?.path();
            let is_document = file.extension().is_some_and(|extension| {
                ["yaml", "yml", "json"].iter().any(|known| extension == *known)
            });
            if is_document && file.is_file() {
                files.push(file);
            }
        }
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    let mut size = 0;
    for file in &files {
        size += fs::metadata(file).map_err(|error| failed(file, error))?.len();
    }
    // mutant scenario-size-unlimited: size > MAX_SIZE ~> false
    if size > MAX_SIZE {
        let error = format!(
            "{} MiB of objects, and at most {} MiB can be served; leave out kinds or namespaces, \
             such as with `kubectl get pvc,replicationsources -n NAMESPACE -o yaml`",
            size.div_ceil(1 << 20),
            MAX_SIZE >> 20
        );
        return Err(DocumentError::of_file(&named(path), &error));
    }
    Ok(files)
}

/// Returns the documents of a file with their first lines.
fn split(file: &Path, text: String) -> Vec<(String, u64)> {
    if is_json(file) { vec![(text, 1)] } else { documents(&text) }
}

fn is_json(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "json")
}

/// Returns whether a document is a Scenario, valid or not.
fn is_scenario(text: &str) -> bool {
    let has = |start: &str| {
        text.lines().any(|line| {
            line.strip_prefix(start).is_some_and(|rest| {
                let value = rest.split('#').next().unwrap_or_default().trim();
                value.trim_matches(['"', '\'']) == "Scenario"
            })
        })
    };
    has("kind:") || text.trim_start().starts_with('{') && text.contains("\"Scenario\"")
}

fn read_objects(
    name: &str,
    file: &Path,
    text: String,
    line: u64,
    objects: &mut Vec<(Place, Value)>,
) -> Result<(), DocumentError> {
    let value: Value = if is_json(file) {
        serde_json::from_str(&text).map_err(|error| {
            DocumentError::at(name, error.line() as u64, &format!("invalid JSON: {error}"))
        })?
    } else {
        let options = serde_saphyr::options! {
            strict_booleans: true,
            budget: serde_saphyr::budget! {
                max_nodes: MAX_NODES,
                max_events: 2 * MAX_NODES,
            },
        };
        serde_saphyr::from_str_with_options(&text, options)
            .map_err(|error| DocumentError::yaml(name, &error))?
    };
    let place = Place::document(Source::new(name, text, line));
    if !value.is_object() {
        return Err(place.error("expected an object with apiVersion, kind, and metadata"));
    }
    flatten(place, value, objects);
    Ok(())
}
