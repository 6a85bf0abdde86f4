//! `salve inspect`: what a component can ask for, read from its bytes, beside what its documents grant. Nothing of the cluster is reachable.

use super::print_json;
use crate::arguments::{Output, OutputArguments, Terms};
use crate::configuration::Schema;
use crate::guest::{self, Chosen};
use crate::session::load;
use crate::tell::{BAD, CARE, DIM, Failed, HEAD, count};
use clap::Args;
use salve_core::document::Limits;
use salve_core::effect::{CAPABILITIES, Reach};
use salve_core::grants::Grants;
use salve_core::journal::Document;
use salve_core::permission::imports::{Comparison, Row, compare, words};
use salve_core::report::Description;
use salve_core::text::inert;
use salve_sandbox::{Inspection, UpperBound, contract};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What a guest can and cannot touch: its imports beside its grants, on one screen that a reviewer can sign.
///
/// Imports bound the verbs: what the component can ask for at all, read from its bytes, in every language. Grants bound the targets: on
/// which objects that is allowed. Only what stands in both can happen. Runs nothing but `describe`, with every capability out of reach.
///
/// Exit code 0: all that it imports is granted somewhere. 2: it cannot run here (unknown imports, another version). 3: something that it
/// imports is granted nowhere.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  salve inspect volsync-unlock --policy policy.yaml\n  salve inspect ./fix-it.wasm --output json | jq .permission"
)]
pub struct Inspect {
    /// A shipped guest (`volsync-unlock`), a component's path, or a Remediation document's path.
    guest: String,
    /// The Remediation document that says what the guest may ask for, in place of its own.
    #[arg(long, value_name = "FILE")]
    remediation: Option<PathBuf>,
    /// The operator's ceiling: a Policy document. What holds is the intersection.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArguments,
}

/// All that is known of it.
struct Seen {
    origin: String,
    inspection: Inspection,
    /// None where it cannot run here.
    description: Option<(Description, Schema)>,
    documents: Vec<Document>,
    comparison: Comparison,
    limits: Limits,
}

impl Inspect {
    /// Reads it and tells.
    pub async fn execute(self) -> Result<u8, Failed> {
        let seen = self.look().await?;
        match self.output.output {
            Output::Json => print_json(&seen.document())?,
            Output::Human => seen.print(),
        }
        Ok(seen.code())
    }

    async fn look(&self) -> Result<Seen, Failed> {
        let guest::Component { bytes, origin, remediation } = guest::component(&self.guest)?;
        let inspection = salve_sandbox::inspect(&bytes)
            .map_err(|error| Failed::document(format!("{}: {error}", inert(&origin))))?;
        let bare = remediation.is_none() && self.remediation.is_none() && self.policy.is_none();
        let (grants, documents, limits) = if bare {
            (Grants::default(), vec![], Limits::default())
        } else {
            let terms = Terms {
                config: vec![],
                config_file: None,
                remediation: self.remediation.clone(),
                policy: self.policy.clone(),
            };
            let chosen = Chosen::find(&self.guest, &terms)?;
            (chosen.grants, chosen.documents, chosen.limits)
        };
        let comparison = compare(inspection.imported(), &grants);
        let mut seen =
            Seen { origin, inspection, description: None, documents, comparison, limits };
        if !seen.cannot_run() {
            let (_, description) = load(&bytes, &seen.origin, limits).await?;
            let schema = Schema::read(&description.configuration)?;
            seen.description = Some((description, schema));
        }
        Ok(seen)
    }
}

impl Seen {
    /// Another version, or what nobody here gives.
    fn cannot_run(&self) -> bool {
        let strange =
            [self.inspection.wasi(), self.inspection.other_version(), self.inspection.unknown()];
        strange.iter().any(|names| !names.is_empty())
            || !self.inspection.unknown_functions().is_empty()
    }

    fn code(&self) -> u8 {
        match (
            self.cannot_run(),
            self.documents.is_empty(),
            self.comparison.rows.iter().any(Row::is_missing),
        ) {
            (true, _, _) => 2,
            // A bare component asks for nothing yet.
            (false, false, true) => 3,
            (false, _, _) => 0,
        }
    }

    fn not_imported(&self) -> Vec<&'static str> {
        let imported = |name: &str| self.comparison.rows.iter().any(|row| row.capability == name);
        CAPABILITIES
            .iter()
            .filter(|(name, reach)| *reach != Reach::Given && !imported(name))
            .map(|(name, _)| *name)
            .collect()
    }

    fn of(&self, reach: Reach) -> Vec<&Row> {
        self.comparison.rows.iter().filter(|row| row.reach == reach).collect()
    }

    fn document(&self) -> Value {
        let Inspection { digest, size, imports, made_by, .. } = &self.inspection;
        let described = self.description.as_ref();
        let names = |reach: Reach| {
            self.of(reach).iter().map(|row| row.capability.clone()).collect::<Vec<_>>()
        };
        let permission = self.comparison.rows.iter().filter(|row| row.reach != Reach::Given).map(|row| {
            json!({
                "capability": row.capability, "reach": if row.reach == Reach::Touch { "touch" } else { "look" },
                "functions": row.functions, "notImported": left(row), "grants": row.grants, "missing": row.is_missing(), "deniedBy": row.denied_by,
            })
        });
        let bound = self.inspection.upper_bound();
        let interpreter =
            if let Some(UpperBound::Interpreter(maker)) = bound { Some(maker) } else { None };
        json!({
            "apiVersion": "salve.dev/v1alpha1", "kind": "Inspection",
            "guest": {
                "name": described.map(|(d, _)| &d.name), "version": described.map(|(d, _)| &d.version), "fixes": described.map(|(d, _)| &d.fixes),
                "digest": digest, "size": size, "origin": self.origin, "madeBy": made_by, "interpreter": interpreter,
            },
            "documents": self.documents,
            "limits": self.limits,
            "imports": imports.iter().map(|i| json!({"name": i.name, "functions": i.functions})).collect::<Vec<_>>(),
            "upperBound": bound.is_some(),
            "look": names(Reach::Look), "touch": names(Reach::Touch), "notImported": self.not_imported(),
            "permission": permission.collect::<Vec<_>>(),
            "unused": self.comparison.unused.iter().map(|(source, capability)| json!({"document": source, "capability": capability})).collect::<Vec<_>>(),
            "unknown": self.inspection.unknown(), "unknownFunctions": self.inspection.unknown_functions(),
            "otherVersion": self.inspection.other_version(), "wasi": self.inspection.wasi(),
            "configuration": described.and_then(|(d, _)| serde_json::from_str::<Value>(&d.configuration).ok()),
        })
    }

    fn print(&self) {
        self.print_head();
        if self.cannot_run() {
            self.print_strange();
        }
        for (reach, title, style) in [(Reach::Look, "looks", HEAD), (Reach::Touch, "touches", CARE)]
        {
            let rows = self.of(reach);
            anstream::println!(
                "\n{style}{title}{style:#}{}",
                if rows.is_empty() { "  nothing" } else { "" }
            );
            rows.iter().for_each(|row| self.print_row(row));
        }
        anstream::println!("\n{DIM}not imported{DIM:#}    {}", listed(&self.not_imported()));
        anstream::println!(
            "{DIM}never{DIM:#}           reach the network, read files, read Secrets, run commands, know the time but by asking"
        );
        for (source, capability) in &self.comparison.unused {
            anstream::println!(
                "{DIM}unused{DIM:#}          {} grants {capability}, and the component does not import it",
                inert(source)
            );
        }
        let bound = self.inspection.upper_bound().map(|bound| match bound {
            UpperBound::Interpreter(maker) => format!("its code runs in an interpreter ({}), which imports whatever it could need", inert(maker)),
            UpperBound::Everything => "it imports every function that there is, as a component with an interpreter inside does".into(),
        });
        if let Some(bound) = bound {
            anstream::println!(
                "{CARE}upper bound{CARE:#}     {bound}: what the code asks for may be less"
            );
        }
        let Limits { memory_mib, fuel_billions } = self.limits;
        anstream::println!(
            "{DIM}limits{DIM:#}          {memory_mib} MiB of memory, {fuel_billions} thousand million instructions, a day"
        );
        if let Some((description, _)) = &self.description {
            anstream::println!(
                "{DIM}of itself{DIM:#}       \"{}\" {DIM}(its own words, unchecked){DIM:#}",
                inert(&description.fixes)
            );
        }
        self.print_digests();
        if let Some((_, schema)) = &self.description {
            print_configuration(schema);
        }
    }

    fn print_head(&self) {
        let (name, version) = self
            .description
            .as_ref()
            .map_or((self.origin.as_str(), ""), |(d, _)| (d.name.as_str(), d.version.as_str()));
        let foreign = if self.cannot_run() {
            "it CANNOT RUN here"
        } else {
            "imports salve:cluster, no WASI, nothing else"
        };
        anstream::println!(
            "{HEAD}{} {}{HEAD:#}   {} KB   {foreign}",
            inert(name),
            inert(version),
            self.inspection.size.div_ceil(1024)
        );
        anstream::println!(
            "{DIM}Imports bound what it can ask for; grants bound on which objects. Only what stands in both can happen.{DIM:#}"
        );
    }

    fn print_strange(&self) {
        let unknown_functions = self.inspection.unknown_functions();
        let all: [(&str, Vec<&str>); 4] = [
            ("wrong version", self.inspection.other_version()),
            ("unknown", self.inspection.unknown()),
            ("unknown function", unknown_functions.iter().map(String::as_str).collect()),
            ("WASI", self.inspection.wasi()),
        ];
        for (what, names) in all.iter().filter(|(_, names)| !names.is_empty()) {
            anstream::println!("{BAD}{what}{BAD:#}  {}", inert(&names.join(", ")));
        }
        anstream::println!(
            "{DIM}this Salve has {}@{}: `salve wit` prints it{DIM:#}",
            contract::PACKAGE,
            contract::VERSION
        );
    }

    fn print_row(&self, row: &Row) {
        let functions = inert(&row.functions.join(", "));
        let head = format!("  {:<26} {functions:<26}", row.capability);
        if row.grants.is_empty() {
            let who = if row.denied_by.is_empty() {
                "no document".to_owned()
            } else {
                row.denied_by.join(", ")
            };
            let verb = if self.documents.is_empty() {
                "there is none: give --remediation or --policy"
            } else {
                "each of its calls is denied"
            };
            anstream::println!("{head} {BAD}MISSING{BAD:#} in {}: {verb}", inert(&who));
            if !self.documents.is_empty() {
                anstream::println!(
                    "{:56}{DIM}to grant it  - {{capability: {}, namespaces: […]}}{DIM:#}",
                    "",
                    row.capability
                );
            }
            return;
        }
        for (n, grant) in row.grants.iter().enumerate() {
            let head = if n == 0 { head.clone() } else { " ".repeat(head.chars().count()) };
            anstream::println!("{head} {}", inert(&words(grant)));
        }
        let unused = left(row);
        if !unused.is_empty() {
            anstream::println!(
                "{:56}{DIM}granted with it, and not imported: {}{DIM:#}",
                "",
                unused.join(", ")
            );
        }
    }

    /// What a signature is for: these bytes under these documents.
    fn print_digests(&self) {
        anstream::println!(
            "\n{HEAD}to sign{HEAD:#}         component    sha256:{}",
            self.inspection.digest
        );
        for document in &self.documents {
            anstream::println!(
                "{:16}{:<12} sha256:{}  {DIM}{}{DIM:#}",
                "",
                document.kind.to_lowercase(),
                document.digest,
                inert(&document.source)
            );
        }
    }
}

/// Functions of a capability that the component does not import.
fn left(row: &Row) -> Vec<String> {
    contract::functions()[&row.capability]
        .iter()
        .filter(|name| !row.functions.contains(name))
        .cloned()
        .collect()
}

fn print_configuration(schema: &Schema) {
    anstream::println!(
        "\n{HEAD}configuration{HEAD:#} {DIM}({}, --config KEY=VALUE){DIM:#}",
        count(schema.keys().len(), "key")
    );
    for key in schema.keys() {
        let unit = if key.unit.is_empty() { String::new() } else { format!(" {}", key.unit) };
        let (name, default) = (inert(&key.name), inert(&plain(&key.default)));
        anstream::println!(
            "  {HEAD}{name}{HEAD:#} {DIM}[{default}{}]{DIM:#} {}",
            inert(&unit),
            inert(&key.sentence)
        );
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
