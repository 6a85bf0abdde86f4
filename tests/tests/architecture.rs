//! The arrows of ARCHITECTURE.md, read from `cargo metadata`, and the absences that keep them true.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the repository")
        .to_owned()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata")
}

/// Direct dependencies of each of our packages, without those of its tests.
fn arrows(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let direct = |p: &cargo_metadata::Package| {
        p.dependencies
            .iter()
            .filter(|d| d.kind != DependencyKind::Development)
            .map(|d| d.name.clone())
            .collect()
    };
    metadata.workspace_packages().into_iter().map(|p| (p.name.to_string(), direct(p))).collect()
}

fn ours(all: &BTreeSet<String>, packages: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    all.iter().filter(|name| packages.contains_key(*name)).cloned().collect()
}

#[test]
fn arrows_between_our_crates_are_those_of_the_map() {
    let packages = arrows(&metadata());
    let expected: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("salve-core", &[][..]),
        ("salve-run", &["salve-core"][..]),
        ("salve-sandbox", &["salve-core", "salve-run"][..]),
        ("salve-kubernetes", &["salve-core", "salve-run"][..]),
        ("salve-simulator", &[][..]),
        (
            "salve",
            &[
                "salve-core",
                "salve-guest-builder",
                "salve-kubernetes",
                "salve-run",
                "salve-sandbox",
                "salve-simulator",
            ][..],
        ),
        ("salve-sdk", &[][..]),
        ("salve-guest-builder", &[][..]),
        ("volsync-unlock", &["salve-sdk"][..]),
        ("xtask", &[][..]),
    ]);
    for (name, wanted) in expected {
        let found = ours(&packages[name], &packages);
        assert_eq!(found, wanted.iter().map(|s| s.to_string()).collect(), "{name}");
    }
    let told = BTreeSet::from([
        "salve",
        "salve-core",
        "salve-fuzz",
        "salve-guest-builder",
        "salve-kubernetes",
        "salve-run",
        "salve-sandbox",
        "salve-sdk",
        "salve-simulator",
        "salve-tests",
        "volsync-unlock",
        "xtask",
    ]);
    assert_eq!(
        packages.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        told,
        "a new package belongs on the map"
    );
}

#[test]
fn one_crate_knows_wasmtime_and_one_of_the_host_knows_kube() {
    let packages = arrows(&metadata());
    let who = |dependency: &str| {
        packages
            .iter()
            .filter(|(_, d)| d.contains(dependency))
            .map(|(n, _)| n.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(who("wasmtime"), ["salve-sandbox"]);
    // The tests have a hand of their own on the real cluster.
    assert_eq!(who("kube"), ["salve-kubernetes", "salve-tests"]);
    assert_eq!(who("wit-bindgen"), ["salve-sdk"]);
}

#[test]
fn the_core_has_no_crate_that_does_anything() {
    let packages = arrows(&metadata());
    let allowed = BTreeSet::from([
        "globset",
        "jsonschema",
        "serde",
        "serde-saphyr",
        "serde_json",
        "sha2",
        "strsim",
        "thiserror",
    ]);
    let found: BTreeSet<_> = packages["salve-core"].iter().map(String::as_str).collect();
    assert_eq!(found, allowed, "a new crate in core is an architectural change");
}

#[test]
fn a_capability_has_one_name_in_all_its_places() {
    let root = root();
    for (capability, _) in salve_core::effect::CAPABILITIES {
        let file = capability.replace('-', "_");
        let mut places = vec![
            format!("wit/{capability}.wit"),
            format!("host/core/src/effect/{file}.rs"),
            format!("host/sandbox/src/capabilities/{file}.rs"),
        ];
        if *capability != "run" {
            places.push(format!("host/kubernetes/src/{file}.rs"));
        }
        for place in places {
            assert!(root.join(&place).exists(), "{place} is missing");
        }
    }
}

#[test]
fn unsafe_code_stands_in_the_cache_of_compiled_code_and_nowhere_else() {
    let mut found = vec![];
    for folder in ["host", "guests", "tests/src", "xtask", "examples"] {
        visit(&root().join(folder), &mut |path, text| {
            if text.lines().any(|l| {
                !l.trim_start().starts_with("//")
                    && (l.contains("unsafe {")
                        || l.contains("unsafe fn")
                        || l.contains("unsafe impl"))
            }) {
                found
                    .push(path.strip_prefix(root()).expect("below the root").display().to_string());
            }
        });
    }
    assert_eq!(found, ["host/sandbox/src/cache.rs"]);
}

fn visit(folder: &Path, see: &mut impl FnMut(&Path, &str)) {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target") {
                visit(&path, see);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            see(&path, &std::fs::read_to_string(&path).expect("a source file"));
        }
    }
}
