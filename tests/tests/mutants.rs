//! Checks that every planted bug still applies and names an existing test. `cargo xtask mutants`
//! runs those tests.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns the sources of a test target: one file, or all files of a folder.
fn sources(folder: &Path, target: &str) -> String {
    let tests = folder.join("tests");
    let (file, directory) = match target {
        "lib" => (folder.join("src/lib.rs"), folder.join("src")),
        _ => (tests.join(format!("{target}.rs")), tests.join(target)),
    };
    let mut text = std::fs::read_to_string(file).unwrap_or_default();
    let mut folders = vec![directory];
    while let Some(folder) = folders.pop() {
        for path in
            std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path())
        {
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
fn every_planted_bug_applies_and_names_an_existing_test() {
    let bugs = xtask::planted::load(&root()).unwrap_or_else(|errors| panic!("{errors}"));
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap();
    let mut errors = vec![];
    for bug in &bugs {
        let package = metadata.packages.iter().find(|package| package.name.as_str() == bug.package);
        let sources = package.map(|package| {
            sources(package.manifest_path.parent().unwrap().as_std_path(), &bug.target)
        });
        let function = bug.caught_by.rsplit("::").next().unwrap_or_default();
        if function.is_empty() || !sources.unwrap_or_default().contains(&format!("fn {function}("))
        {
            errors.push(format!(
                "{}: no test {:?} in target {} of {}",
                bug.name, bug.caught_by, bug.target, bug.package
            ));
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    assert!(bugs.len() >= 134, "only {} planted bugs are left", bugs.len());
}
