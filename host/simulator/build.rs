//! Generates the enum of the built-in scenarios from the files in `scenarios/`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let package = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let folder = package.join("scenarios");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the folder is readable")
        .map(|entry| entry.expect("the folder is readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("incident.rs");
    fs::write(out, generate(&files)).expect("the output folder is writable");
}

fn generate(files: &[PathBuf]) -> String {
    let name = |path: &Path| path.file_stem().expect("a file").to_string_lossy().into_owned();
    let (mut variants, mut all, mut names, mut texts) = Default::default();
    for path in files {
        let (name, variant) = (name(path), variant(&name(path)));
        if name == "playbook" {
            add(&mut variants, format_args!("    #[default]"));
        }
        add(&mut variants, format_args!("    /// The scenario `{name}`."));
        add(&mut variants, format_args!("    {variant},"));
        add(&mut all, format_args!("        Incident::{variant},"));
        add(&mut names, format_args!("            Incident::{variant} => {name:?},"));
        let path = path.display().to_string();
        add(&mut texts, format_args!("            Incident::{variant} => include_str!({path:?}),"));
    }
    format!(
        "/// A built-in scenario: one per file in `scenarios/`.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]\n\
         pub enum Incident {{\n{variants}}}\n\n\
         impl Incident {{\n\
         \x20   /// All built-in scenarios, by name.\n\
         \x20   pub const ALL: [Incident; {}] = [\n{all}    ];\n\n\
         \x20   /// Returns the name.\n\
         \x20   pub fn name(self) -> &'static str {{\n\
         \x20       match self {{\n{names}        }}\n    }}\n\n\
         \x20   /// Returns the document.\n\
         \x20   pub(super) fn text(self) -> &'static str {{\n\
         \x20       match self {{\n{texts}        }}\n    }}\n\
         }}\n",
        files.len(),
    )
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}

/// Returns `StuckImporter` for `stuck-importer`.
fn variant(name: &str) -> String {
    let capitalized = |part: &str| part[..1].to_uppercase() + &part[1..];
    name.split('-').map(capitalized).collect()
}
