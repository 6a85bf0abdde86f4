//! `salve inspect`: compares what a component imports with what its documents grant. Reads files
//! only; no cluster is contacted.

use super::print_json;
use crate::arguments::{GuestOptions, Output, OutputArguments};
use crate::configuration::Schema;
use crate::guest::{self, ResolvedGuest};
use crate::output::{CommandError, ERROR, HEADING, MUTED, WARN, duration, plural};
use crate::session::load;
use anstyle::Style;
use clap::Args;
use salve_core::capability::{Access, Capability};
use salve_core::document::{API_VERSION, Limits};
use salve_core::grants::Grants;
use salve_core::journal::Document;
use salve_core::permission::imports::{Comparison, Row, compare, describe};
use salve_core::problem::Problem;
use salve_core::report::Description;
use salve_core::sanitize::sanitized;
use salve_sandbox::{Inspection, UpperBound, contract};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Show what a guest can and cannot do: its imports next to its grants, for review.
///
/// Imports limit the verbs: what the component can ask for at all, read from its bytes, whatever
/// language it was written in. Grants limit the targets: on which objects that is allowed. Only
/// what both allow can happen. Runs only the guest's `describe`, without any capability.
///
/// Exit code 0: everything that is imported is granted. 2: the component cannot run here (unknown
/// imports, or another contract version). 3: an import is not granted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    salve inspect volsync-unlock --policy policy.yaml\n  \
    salve inspect ./fix-it.wasm --output json | jq .permission")]
pub struct Inspect {
    /// Shipped guest (`volsync-unlock`), or path of a component or a Remediation document.
    guest: String,
    /// Remediation document to use instead of the guest's own.
    #[arg(long, value_name = "FILE")]
    remediation: Option<PathBuf>,
    /// RemediationPolicy document that limits the guest further. Only what both documents grant is
    /// allowed.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArguments,
}

/// Everything that is known about a guest.
struct Inspected {
    origin: String,
    inspection: Inspection,
    /// None if the component cannot run here.
    description: Option<(Description, Schema)>,
    documents: Vec<Document>,
    comparison: Comparison,
    limits: Limits,
    problems: Vec<Problem>,
}

impl Inspect {
    /// Inspects the guest, prints the result, and returns the exit code.
    pub async fn execute(self) -> Result<u8, CommandError> {
        let inspected = self.inspect().await?;
        match self.output.output {
            Output::Json => print_json(&inspected.document())?,
            Output::Human => inspected.print(),
        }
        Ok(inspected.exit_code())
    }

    async fn inspect(&self) -> Result<Inspected, CommandError> {
        let guest::Component { bytes, origin, remediation } = guest::find_component(&self.guest)?;
        let inspection = salve_sandbox::inspect(&bytes)
            .map_err(|error| CommandError::document(format!("{}: {error}", sanitized(&origin))))?;
        let has_documents =
            remediation.is_some() || self.remediation.is_some() || self.policy.is_some();
        let (grants, documents, limits, problems) = if has_documents {
            let options = GuestOptions {
                config: vec![],
                config_file: None,
                remediation: self.remediation.clone(),
                policy: self.policy.clone(),
            };
            let guest = ResolvedGuest::resolve(&self.guest, &options)?;
            (guest.grants, guest.documents, guest.limits, guest.problems)
        } else {
            (Grants::default(), vec![], Limits::default(), vec![])
        };
        let comparison = compare(inspection.imported(), &grants);
        let mut inspected = Inspected {
            origin,
            inspection,
            description: None,
            documents,
            comparison,
            limits,
            problems,
        };
        if !inspected.cannot_run() {
            let (_, description) = load(&bytes, &inspected.origin, limits).await?;
            let schema = Schema::parse(&description.configuration)?;
            inspected.description = Some((description, schema));
        }
        Ok(inspected)
    }
}

impl Inspected {
    /// Returns true if the component imports something that this version does not provide.
    fn cannot_run(&self) -> bool {
        let missing =
            [self.inspection.wasi(), self.inspection.other_version(), self.inspection.unknown()];
        missing.iter().any(|names| !names.is_empty())
            || !self.inspection.unknown_functions().is_empty()
    }

    fn exit_code(&self) -> u8 {
        match (
            self.cannot_run(),
            self.documents.is_empty(),
            self.comparison.rows.iter().any(Row::is_missing),
        ) {
            (true, _, _) => 2,
            // A component without documents is not compared with any grants.
            (false, false, true) => 3,
            (false, _, _) => 0,
        }
    }

    fn not_imported(&self) -> Vec<&'static str> {
        let is_imported = |capability: &Capability| {
            self.comparison.rows.iter().any(|row| row.capability == *capability)
        };
        Capability::grantable().filter(|one| !is_imported(one)).map(Capability::name).collect()
    }

    fn rows(&self, access: Access) -> Vec<&Row> {
        self.comparison.rows.iter().filter(|row| row.capability.access() == access).collect()
    }

    fn document(&self) -> Value {
        let Inspection { digest, size, imports, made_by, .. } = &self.inspection;
        let description = self.description.as_ref().map(|(description, _)| description);
        let names =
            |access: Access| self.rows(access).iter().map(|row| row.capability).collect::<Vec<_>>();
        let permission = self.comparison.rows.iter().filter_map(|row| {
            let access = match row.capability.access() {
                Access::Builtin | Access::Internal => return None,
                Access::Read => "read",
                Access::Write => "write",
            };
            Some(json!({
                "capability": row.capability,
                "access": access,
                "functions": row.functions,
                "notImported": functions_not_imported(row),
                "grants": row.grants,
                "missing": row.is_missing(),
                "deniedBy": row.denied_by,
            }))
        });
        let imports = imports.iter().map(|i| json!({"name": i.name, "functions": i.functions}));
        let unused =
            self.comparison.unused.iter().map(
                |(document, capability)| json!({"document": document, "capability": capability}),
            );
        let bound = self.inspection.upper_bound();
        let interpreter =
            if let Some(UpperBound::Interpreter(maker)) = bound { Some(maker) } else { None };
        let configuration =
            description.and_then(|d| serde_json::from_str::<Value>(&d.configuration).ok());
        json!({
            "apiVersion": API_VERSION,
            "kind": "Inspection",
            "guest": {
                "name": description.map(|d| &d.name),
                "version": description.map(|d| &d.version),
                "fixes": description.map(|d| &d.fixes),
                "digest": digest,
                "size": size,
                "origin": self.origin,
                "madeBy": made_by,
                "interpreter": interpreter,
            },
            "documents": self.documents,
            "limits": self.limits,
            "problems": self.problems,
            "imports": imports.collect::<Vec<_>>(),
            "upperBound": bound.is_some(),
            "reads": names(Access::Read),
            "writes": names(Access::Write),
            "notImported": self.not_imported(),
            "permission": permission.collect::<Vec<_>>(),
            "unused": unused.collect::<Vec<_>>(),
            "unknown": self.inspection.unknown(),
            "unknownFunctions": self.inspection.unknown_functions(),
            "otherVersion": self.inspection.other_version(),
            "wasi": self.inspection.wasi(),
            "configuration": configuration,
        })
    }

    fn print(&self) {
        self.print_head();
        if self.cannot_run() {
            self.print_unsupported_imports();
        }
        for (access, title, style) in
            [(Access::Read, "Reads", HEADING), (Access::Write, "Writes", WARN)]
        {
            let rows = self.rows(access);
            anstream::println!(
                "\n{style}{title}{style:#}{}",
                if rows.is_empty() { "  none" } else { "" }
            );
            rows.iter().for_each(|row| self.print_row(row));
        }
        anstream::println!();
        print_field("Not imported", MUTED, &list(&self.not_imported()));
        print_field(
            "Never",
            MUTED,
            "accesses the network, files, or Secrets, or runs commands; it gets the time only \
             from the host",
        );
        for (document, capability) in &self.comparison.unused {
            let document = sanitized(document);
            let unused = format!("{document} grants {capability}, which is not imported");
            print_field("Unused", MUTED, &unused);
        }
        let bound = self.inspection.upper_bound().map(|bound| match bound {
            UpperBound::Interpreter(maker) => format!(
                "the code runs in an interpreter ({}), which imports everything it could need",
                sanitized(maker)
            ),
            UpperBound::Everything => {
                "every existing function is imported, as by a component with an interpreter inside"
                    .into()
            }
        });
        if let Some(bound) = bound {
            print_field("Upper bound", WARN, &format!("{bound}; the code itself may use less"));
        }
        let Limits { memory_mib, fuel_billions, deadline_seconds } = self.limits;
        let deadline = duration(deadline_seconds.saturating_mul(1000));
        print_field(
            "Limits",
            MUTED,
            &format!("memory {memory_mib} MiB, {fuel_billions} billion instructions, {deadline}"),
        );
        self.print_problems();
        if let Some((description, _)) = &self.description {
            print_field(
                "Self-description",
                MUTED,
                &format!(
                    "\"{}\" {MUTED}(by the guest, not verified){MUTED:#}",
                    sanitized(&description.fixes)
                ),
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
        let imports = if self.cannot_run() {
            "CANNOT RUN here"
        } else {
            "imports salve:cluster, no WASI, nothing else"
        };
        anstream::println!(
            "{HEADING}{} {}{HEADING:#}   {} KB   {imports}",
            sanitized(name),
            sanitized(version),
            self.inspection.size.div_ceil(1024)
        );
        anstream::println!(
            "{MUTED}Imports limit what the guest can ask for; grants limit on which objects. Only \
             what both allow can happen.{MUTED:#}"
        );
    }

    fn print_unsupported_imports(&self) {
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
            "{MUTED}this version of Salve provides {}@{}; `salve wit` prints it{MUTED:#}",
            contract::PACKAGE,
            contract::VERSION
        );
    }

    fn print_row(&self, row: &Row) {
        let functions = sanitized(&row.functions.join(", "));
        let head = format!("  {:<26} {functions:<26}", row.capability.name());
        if row.grants.is_empty() {
            self.print_missing(&head, row);
            return;
        }
        for (n, grant) in row.grants.iter().enumerate() {
            let head = if n == 0 { head.clone() } else { " ".repeat(head.chars().count()) };
            anstream::println!("{head} {}", sanitized(&describe(grant)));
        }
        let unused = functions_not_imported(row);
        if !unused.is_empty() {
            anstream::println!(
                "{:56}{MUTED}also granted, but not imported: {}{MUTED:#}",
                "",
                unused.join(", ")
            );
        }
    }

    fn print_missing(&self, head: &str, row: &Row) {
        if self.documents.is_empty() {
            anstream::println!(
                "{head} {ERROR}MISSING{ERROR:#}: no document grants it; pass --remediation or \
                 --policy"
            );
            return;
        }
        if row.denied_by.is_empty() {
            anstream::println!(
                "{head} {ERROR}MISSING{ERROR:#}: the grants of the documents do not overlap; \
                 every call is denied"
            );
        } else {
            anstream::println!(
                "{head} {ERROR}MISSING{ERROR:#} in {}: every call is denied",
                sanitized(&row.denied_by.join(", "))
            );
        }
        let shape = row.capability.grant_shape();
        let kinds = if shape.kinds.is_required() { "kinds: […], " } else { "" };
        let fields = if shape.fields { "fields: […], " } else { "" };
        anstream::println!(
            "{:56}{MUTED}to allow  - {{capability: {}, {kinds}{fields}namespaces: \
             […]}}{MUTED:#}",
            "",
            row.capability
        );
    }

    /// Prints what the host verifies before it reports that a run fixed something.
    fn print_problems(&self) {
        if self.problems.is_empty() && !self.documents.is_empty() {
            let text = "never: the documents declare no problem (spec.problems)";
            print_field("Fixed if", WARN, text);
        }
        for (n, problem) in self.problems.iter().enumerate() {
            let label = if n == 0 { "Fixed if" } else { "" };
            print_field(label, MUTED, &sanitized(&problem.to_string()));
        }
    }

    /// Prints the digests to sign: these bytes under these documents.
    fn print_digests(&self) {
        anstream::println!();
        let digest = format!("{:<17} sha256:{}", "component", self.inspection.digest);
        print_field("Digests", HEADING, &digest);
        for document in &self.documents {
            let digest = format!(
                "{:<17} sha256:{}  {MUTED}{}{MUTED:#}",
                document.kind.as_str().to_lowercase(),
                document.digest,
                sanitized(&document.source)
            );
            print_field("", MUTED, &digest);
        }
    }
}

/// Prints a label and a value that is already sanitized.
fn print_field(label: &str, style: Style, value: &str) {
    anstream::println!("{style}{label:<16}{style:#}  {value}");
}

/// Returns the functions of a capability that the component does not import.
fn functions_not_imported(row: &Row) -> Vec<String> {
    let functions = contract::functions().get(row.capability.name()).into_iter().flatten();
    functions.filter(|name| !row.functions.contains(name)).cloned().collect()
}

fn print_configuration(schema: &Schema) {
    anstream::println!(
        "\n{HEADING}Configuration{HEADING:#} {MUTED}({}, --config KEY=VALUE){MUTED:#}",
        plural(schema.keys().len(), "key")
    );
    for key in schema.keys() {
        let unit = if key.unit.is_empty() { String::new() } else { format!(" {}", key.unit) };
        let (name, default) = (sanitized(&key.name), sanitized(&flag_value(&key.default)));
        anstream::println!(
            "  {HEADING}{name}{HEADING:#} {MUTED}[{default}{}]{MUTED:#} {}",
            sanitized(&unit),
            sanitized(&key.summary)
        );
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

/// Formats a value as `--config` takes it.
fn flag_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(flag_value).collect::<Vec<_>>().join(","),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}
