//! `salve wit`: prints the WIT interfaces for guest authors.

use crate::output::CommandError;
use clap::Args;
use salve_sandbox::contract;
use std::path::PathBuf;

/// Print the WIT contract between host and guest, or write it to a folder.
///
/// Guests are compiled against these interfaces.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    salve wit --to wit     \
    # then: wit_bindgen::generate!({ path: \"wit\", world: \"remediation\" })")]
pub struct Wit {
    /// Write one file per interface to this folder instead of printing. The folder is created if
    /// it does not exist.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

impl Wit {
    /// Prints the contract or writes its files.
    pub fn execute(self) -> Result<u8, CommandError> {
        let Some(folder) = self.to else {
            anstream::println!("{}", contract::wit());
            return Ok(0);
        };
        std::fs::create_dir_all(&folder).map_err(|e| {
            CommandError::host(format!("failed to create {}: {e}", folder.display()))
        })?;
        for (name, text) in contract::FILES {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|e| {
                CommandError::host(format!("failed to write {}: {e}", path.display()))
            })?;
        }
        Ok(0)
    }
}
