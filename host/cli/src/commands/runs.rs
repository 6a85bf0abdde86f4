//! `salve runs`: what was run from this machine.

use super::print_json;
use crate::arguments::{Output, OutputArguments, RunsArguments};
use crate::runs;
use crate::tell::{BAD, DIM, Failed, moment};
use clap::Args;
use salve_core::report::Report;
use salve_core::text::inert;
use salve_run::RunFile;
use serde_json::json;

/// Lists the runs of this machine, the newest last.
#[derive(Debug, Args)]
pub struct Runs {
    #[command(flatten)]
    runs: RunsArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Runs {
    /// Lists them.
    pub fn execute(self) -> Result<u8, Failed> {
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let mut items = vec![];
        for path in runs::all(&folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let told = RunFile::read(&path).map(|entries| Report::of(&entries));
            if self.output.output == Output::Json {
                items.push(match told {
                    Ok(Some(r)) => json!({"file": path, "run": r.run, "guest": r.guest.name, "cluster": r.cluster.context, "began": r.began, "verdict": r.verdict, "sentence": r.sentence}),
                    Ok(None) => json!({"file": path, "damage": "it holds no header"}),
                    Err(e) => json!({"file": path, "damage": e.to_string()}),
                });
                continue;
            }
            match told {
                Ok(Some(r)) => anstream::println!(
                    "{}  {:<12} {:<24} {:<18} {DIM}{}{DIM:#}",
                    inert(&r.run),
                    inert(&r.cluster.context),
                    format!("{} {}", inert(&r.guest.name), inert(&r.guest.version)),
                    r.verdict,
                    moment(r.began)
                ),
                Ok(None) => anstream::println!("{BAD}damaged{BAD:#}   {}: it holds no header", inert(&name)),
                Err(e) => anstream::println!("{BAD}damaged{BAD:#}   {}", inert(&e.to_string())),
            }
        }
        if self.output.output == Output::Json {
            print_json(&json!({"apiVersion": "salve.dev/v1alpha1", "kind": "Runs", "items": items}))?;
        }
        Ok(0)
    }
}
