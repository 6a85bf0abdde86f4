//! `salve inspect`: what a component can ask for, read from its bytes, beside what its documents grant. Nothing of the cluster is reachable.

use super::print_json;
use crate::arguments::{GuestOptions, Output, OutputArguments};
use crate::configuration::Schema;
use crate::guest::{self, ResolvedGuest};
use crate::output::{ERROR, Failed, HEADING, MUTED, WARN, count};
use crate::session::load;
use clap::Args;
use salve_core::document::Limits;
use salve_core::effect::{Access, CAPABILITIES};
use salve_core::grants::Grants;
use salve_core::journal::Document;
use salve_core::permission::imports::{Comparison, Row, compare, words};
use salve_core::report::Description;
use salve_core::sanitize::sanitized;
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
            .map_err(|error| Failed::document(format!("{}: {error}", sanitized(&origin))))?;
        let bare = remediation.is_none() && self.remediation.is_none() && self.policy.is_none();
        let (grants, documents, limits) = if bare {
            (Grants::default(), vec![], Limits::default())
        } else {
            let terms = GuestOptions {
                config: vec![],
                config_file: None,
                remediation: self.remediation.clone(),
                policy: self.policy.clone(),
            };
            let chosen = ResolvedGuest::find(&self.guest, &terms)?;
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
            .filter(|(name, access_of)| *access_of != Access::Builtin && !imported(name))
            .map(|(name, _)| *name)
            .collect()
    }

    fn of(&self, access_of: Access) -> Vec<&Row> {
        self.comparison.rows.iter().filter(|row| row.access_of == access_of).collect()
    }

    fn document(&self) -> Value {
        let Inspection { digest, size, imports, made_by, .. } = &self.inspection;
        let described = self.description.as_ref();
        let names = |access_of: Access| {
            self.of(access_of).iter().map(|row| row.capability.clone()).collect::<Vec<_>>()
        };
        let permission = self.comparison.rows.iter().filter(|row| row.access_of != Access::Builtin).map(|row| {
            json!({
                "capability": row.capability, "reach": if row.access_of == Access::Write { "touch" } else { "look" },
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
            "look": names(Access::Read), "touch": names(Access::Write), "notImported": self.not_imported(),
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
        for (access_of, title, style) in
            [(Access::Read, "looks", HEADING), (Access::Write, "touches", WARN)]
        {
            let rows = self.of(access_of);
            anstream::println!(
                "\n{style}{title}{style:#}{}",
                if rows.is_empty() { "  nothing" } else { "" }
            );
            rows.iter().for_each(|row| self.print_row(row));
        }
        anstream::println!("\n{MUTED}not imported{MUTED:#}    {}", listed(&self.not_imported()));
        anstream::println!(
            "{MUTED}never{MUTED:#}           reach the network, read files, read Secrets, run commands, know the time but by asking"
        );
        for (source, capability) in &self.comparison.unused {
            anstream::println!(
                "{MUTED}unused{MUTED:#}          {} grants {capability}, and the component does not import it",
                sanitized(source)
            );
        }
        let bound = self.inspection.upper_bound().map(|bound| match bound {
            UpperBound::Interpreter(maker) => format!("its code runs in an interpreter ({}), which imports whatever it could need", sanitized(maker)),
            UpperBound::Everything => "it imports every function that there is, as a component with an interpreter inside does".into(),
        });
        if let Some(bound) = bound {
            anstream::println!(
                "{WARN}upper bound{WARN:#}     {bound}: what the code asks for may be less"
            );
        }
        let Limits { memory_mib, fuel_billions, deadline_seconds } = self.limits;
        let deadline = deadline_seconds / 60;
        anstream::println!(
            "{MUTED}limits{MUTED:#}          {memory_mib} MiB of memory, {fuel_billions} billion instructions, {deadline} min"
        );
        if let Some((description, _)) = &self.description {
            anstream::println!(
                "{MUTED}of itself{MUTED:#}       \"{}\" {MUTED}(its own words, unchecked){MUTED:#}",
                sanitized(&description.fixes)
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
            "{HEADING}{} {}{HEADING:#}   {} KB   {foreign}",
            sanitized(name),
            sanitized(version),
            self.inspection.size.div_ceil(1024)
        );
        anstream::println!(
            "{MUTED}Imports bound what it can ask for; grants bound on which objects. Only what stands in both can happen.{MUTED:#}"
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
            anstream::println!("{ERROR}{what}{ERROR:#}  {}", sanitized(&names.join(", ")));
        }
        anstream::println!(
            "{MUTED}this Salve has {}@{}: `salve wit` prints it{MUTED:#}",
            contract::PACKAGE,
            contract::VERSION
        );
    }

    fn print_row(&self, row: &Row) {
        let functions = sanitized(&row.functions.join(", "));
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
            anstream::println!("{head} {ERROR}MISSING{ERROR:#} in {}: {verb}", sanitized(&who));
            if !self.documents.is_empty() {
                anstream::println!(
                    "{:56}{MUTED}to grant it  - {{capability: {}, namespaces: […]}}{MUTED:#}",
                    "",
                    row.capability
                );
            }
            return;
        }
        for (n, grant) in row.grants.iter().enumerate() {
            let head = if n == 0 { head.clone() } else { " ".repeat(head.chars().count()) };
            anstream::println!("{head} {}", sanitized(&words(grant)));
        }
        let unused = left(row);
        if !unused.is_empty() {
            anstream::println!(
                "{:56}{MUTED}granted with it, and not imported: {}{MUTED:#}",
                "",
                unused.join(", ")
            );
        }
    }

    /// What a signature is for: these bytes under these documents.
    fn print_digests(&self) {
        anstream::println!(
            "\n{HEADING}to sign{HEADING:#}         component    sha256:{}",
            self.inspection.digest
        );
        for document in &self.documents {
            anstream::println!(
                "{:16}{:<12} sha256:{}  {MUTED}{}{MUTED:#}",
                "",
                document.kind.to_lowercase(),
                document.digest,
                sanitized(&document.source)
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
        "\n{HEADING}configuration{HEADING:#} {MUTED}({}, --config KEY=VALUE){MUTED:#}",
        count(schema.keys().len(), "key")
    );
    for key in schema.keys() {
        let unit = if key.unit.is_empty() { String::new() } else { format!(" {}", key.unit) };
        let (name, default) = (sanitized(&key.name), sanitized(&plain(&key.default)));
        anstream::println!(
            "  {HEADING}{name}{HEADING:#} {MUTED}[{default}{}]{MUTED:#} {}",
            sanitized(&unit),
            sanitized(&key.summary)
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
