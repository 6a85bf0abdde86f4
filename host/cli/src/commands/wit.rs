//! `salve wit`: the contract, for authors.

use crate::output::Failed;
use clap::Args;
use salve_sandbox::contract;
use std::path::PathBuf;

/// Prints the contract that guests are written against, or writes it into a folder.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  salve wit --to wit     # then: wit_bindgen::generate!({ path: \"wit\", world: \"remediation\" })"
)]
pub struct Wit {
    /// Write one file an interface into this folder.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

impl Wit {
    /// Prints or writes it.
    pub fn execute(self) -> Result<u8, Failed> {
        let Some(folder) = self.to else {
            anstream::println!("{}", contract::wit());
            return Ok(0);
        };
        std::fs::create_dir_all(&folder)
            .map_err(|e| Failed::host(format!("{}: {e}", folder.display())))?;
        for (name, text) in contract::FILES {
            let path = folder.join(name);
            std::fs::write(&path, text)
                .map_err(|e| Failed::host(format!("{}: {e}", path.display())))?;
        }
        Ok(0)
    }
}
