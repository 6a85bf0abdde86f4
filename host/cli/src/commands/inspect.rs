//! `salve inspect`: what a component can ask for, read from its bytes. Nothing of the cluster is reachable.

use super::print_json;
use crate::arguments::{Output, OutputArguments};
use crate::configuration::Schema;
use crate::guest;
use crate::session::load;
use crate::tell::{CARE, DIM, Failed, HEAD};
use clap::Args;
use salve_core::digest;
use salve_core::effect::{CAPABILITIES, Reach};
use salve_core::text::inert;
use serde_json::json;

/// What a guest can and cannot touch, read from the component itself. Runs nothing but `describe`, with
/// every capability out of reach.
///
/// Imports bound what a guest can ask for, in every language; which objects, its grants say.
#[derive(Debug, Args)]
pub struct Inspect {
    /// A shipped guest (`volsync-unlock`), a component's path, or a Remediation document's path.
    guest: String,
    #[command(flatten)]
    output: OutputArguments,
}

impl Inspect {
    /// Reads it and tells.
    pub async fn execute(self) -> Result<u8, Failed> {
        let guest::Component { bytes, origin, remediation } = guest::component(&self.guest)?;
        let remediation = remediation.map(|(remediation, _)| remediation);
        let limits = remediation.as_ref().map(|r| r.spec.limits).unwrap_or_default();
        let (guest, description) = load(&bytes, &origin, limits).await?;
        let schema = Schema::read(&description.configuration)?;
        let digest = digest::of_bytes(&bytes);
        let may = |reach: Reach| guest.inspection().capabilities(reach);
        let asked = [may(Reach::Look), may(Reach::Touch)].concat();
        let cannot: Vec<_> = CAPABILITIES.iter().filter(|(name, reach)| *reach != Reach::Given && !asked.contains(name)).map(|(name, _)| *name).collect();
        if self.output.output == Output::Json {
            print_json(&json!({
                "apiVersion": "salve.dev/v1alpha1", "kind": "Inspection",
                "guest": {"name": description.name, "version": description.version, "fixes": description.fixes, "digest": digest, "size": bytes.len(), "origin": origin},
                "imports": guest.inspection().imports.iter().map(|i| json!({"name": i.name, "functions": i.functions})).collect::<Vec<_>>(),
                "look": may(Reach::Look), "touch": may(Reach::Touch), "notImported": cannot,
                "configuration": serde_json::from_str::<serde_json::Value>(&description.configuration).ok(),
                "grants": remediation.map(|r| r.spec.grants),
            }))?;
            return Ok(0);
        }
        anstream::println!(
            "{HEAD}{} {}{HEAD:#}   sha256:{}…   {} KB   imports salve:cluster, no WASI, nothing else\n",
            inert(&description.name),
            inert(&description.version),
            &digest[..16],
            bytes.len().div_ceil(1024)
        );
        anstream::println!("may ask to look    {}", listed(&may(Reach::Look)));
        anstream::println!("may ask to touch   {CARE}{}{CARE:#}", listed(&may(Reach::Touch)));
        anstream::println!("did not ask for    {DIM}{}{DIM:#}", listed(&cannot));
        anstream::println!("cannot             reach the network, read files, read Secrets, run commands, know the time but by asking");
        anstream::println!("it says of itself  \"{}\" {DIM}(its own words, unchecked){DIM:#}", inert(&description.fixes));
        if let Some(remediation) = &remediation {
            anstream::println!("\n{HEAD}asks to be granted{HEAD:#}");
            for grant in &remediation.spec.grants {
                anstream::println!("  {}", inert(&serde_json::to_string(grant).unwrap_or_default()));
            }
        }
        anstream::println!("\n{HEAD}configuration{HEAD:#} {DIM}(--config KEY=VALUE){DIM:#}");
        for key in schema.keys() {
            let unit = if key.unit.is_empty() { String::new() } else { format!(" {}", key.unit) };
            anstream::println!(
                "  {HEAD}{}{HEAD:#} {DIM}[{}{}]{DIM:#}\n      {}",
                inert(&key.name),
                inert(&plain(&key.default)),
                inert(&unit),
                inert(&key.sentence)
            );
        }
        Ok(0)
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
