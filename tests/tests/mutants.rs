//! The planted bugs of `mutants.yaml` can still be planted, and whoever is to catch them is there. `cargo xtask mutants`
//! plants them.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Mutant {
    name: String,
    file: PathBuf,
    find: String,
    replace: String,
    test: String,
    package: String,
    caught_by: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folder of a package.
fn package(name: &str) -> PathBuf {
    let metadata = cargo_metadata::MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    let found = metadata.packages.iter().find(|package| package.name.as_str() == name);
    found.unwrap_or_else(|| panic!("there is no package {name}")).manifest_path.parent().unwrap().into()
}

/// The sources of a test target: one file, or all of a folder.
fn sources(folder: &Path, test: &str) -> String {
    let tests = folder.join("tests");
    let (file, directory) = match test {
        "lib" => (folder.join("src/lib.rs"), folder.join("src")),
        _ => (tests.join(format!("{test}.rs")), tests.join(test)),
    };
    let mut text = std::fs::read_to_string(file).unwrap_or_default();
    let mut folders = vec![directory];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    text
}

#[test]
fn every_planted_bug_can_be_planted_and_has_somebody_to_catch_it() {
    let mutants: Vec<Mutant> = serde_saphyr::from_str(&std::fs::read_to_string(root().join("tests/mutants.yaml")).unwrap()).unwrap();
    let mut wrong = vec![];
    for mutant in &mutants {
        let text = std::fs::read_to_string(root().join(&mutant.file)).unwrap_or_default();
        let found = text.matches(&mutant.find).count();
        if found != 1 || mutant.find == mutant.replace {
            wrong.push(format!("{}: what is to be found is {found} times in {}", mutant.name, mutant.file.display()));
        }
        let function = mutant.caught_by.rsplit("::").next().unwrap_or_default();
        if function.is_empty() || !sources(&package(&mutant.package), &mutant.test).contains(&format!("fn {function}(")) {
            wrong.push(format!("{}: no test {:?} in {} of {}", mutant.name, mutant.caught_by, mutant.test, mutant.package));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let names: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
    assert!(names.len() == mutants.len() && names.len() >= 30, "{} of {}", names.len(), mutants.len());
}
