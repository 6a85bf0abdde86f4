//! Checks the crate dependencies of ARCHITECTURE.md against `cargo metadata`, and that what the
//! architecture rules out is absent.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const FEATURES: &str = "salve-features";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata")
}

/// Returns the direct dependencies of each workspace package, without dev-dependencies and without
/// `salve-features`, which has no code.
fn dependencies(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let direct = |p: &cargo_metadata::Package| {
        p.dependencies
            .iter()
            .filter(|d| d.kind != DependencyKind::Development && d.name != FEATURES)
            .map(|d| d.name.clone())
            .collect()
    };
    metadata.workspace_packages().into_iter().map(|p| (p.name.to_string(), direct(p))).collect()
}

fn in_workspace(
    all: &BTreeSet<String>,
    packages: &BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<String> {
    all.iter().filter(|name| packages.contains_key(*name)).cloned().collect()
}

#[test]
fn crate_dependencies_match_architecture_md() {
    let packages = dependencies(&metadata());
    let expected: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("salve-document", &[][..]),
        ("salve-core", &["salve-document"][..]),
        ("salve-run", &["salve-core"][..]),
        ("salve-sandbox", &["salve-core", "salve-run"][..]),
        ("salve-kubernetes", &["salve-core", "salve-run"][..]),
        ("salve-simulator", &["salve-document"][..]),
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
    for (name, expected) in expected {
        let found = in_workspace(&packages[name], &packages);
        assert_eq!(found, expected.iter().map(|s| s.to_string()).collect(), "{name}");
    }
    let listed = BTreeSet::from([
        "salve",
        "salve-core",
        "salve-document",
        FEATURES,
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
        listed,
        "add the new package to ARCHITECTURE.md"
    );
}

/// Returns the features with which each dependency is built. A dependency of build scripts may be
/// built with several sets.
fn features(selection: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal,build,dev"])
        .args(["--prefix", "none", "--no-dedupe", "--format", "{p}|{f}|"])
        .args(selection)
        .current_dir(root())
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let Some((package, rest)) = line.split_once('|') else { continue };
        let package = package.trim_end_matches(" (proc-macro)");
        all.entry(package.into()).or_default().insert(rest.trim_end_matches('|').into());
    }
    all
}

/// Otherwise `cargo test -p PACKAGE` builds dependencies again, wasmtime among them.
#[test]
fn every_selection_of_packages_builds_dependencies_with_the_same_features() {
    let whole = features(&[]);
    for package in dependencies(&metadata()).keys() {
        // Their few dependencies are built quickly.
        let is_exempt = ["salve-sdk", "salve-guest-builder", "volsync-unlock", "xtask", FEATURES];
        if is_exempt.contains(&package.as_str()) {
            continue;
        }
        for (dependency, built) in features(&["--package", package]) {
            let Some(known) = whole.get(&dependency) else { continue };
            let different: Vec<&String> = built.difference(known).collect();
            assert!(
                different.is_empty(),
                "`cargo test -p {package}` builds {dependency} with {different:?}, `cargo test` \
                 with {known:?}: add the missing features to features/Cargo.toml"
            );
        }
    }
}

#[test]
fn only_one_host_crate_depends_on_wasmtime_and_only_one_on_kube() {
    let packages = dependencies(&metadata());
    let dependents = |dependency: &str| {
        packages
            .iter()
            .filter(|(_, d)| d.contains(dependency))
            .map(|(n, _)| n.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(dependents("wasmtime"), ["salve-sandbox"]);
    // The tests have their own client for the real cluster.
    assert_eq!(dependents("kube"), ["salve-kubernetes", "salve-tests"]);
    assert_eq!(dependents("wit-bindgen"), ["salve-sdk"]);
}

#[test]
fn core_depends_on_no_crate_with_side_effects() {
    let packages = dependencies(&metadata());
    let allowed = BTreeMap::from([
        (
            "salve-core",
            &[
                "globset",
                "regex",
                "salve-document",
                "schemars",
                "serde",
                "serde_json",
                "sha2",
                "thiserror",
            ][..],
        ),
        (
            "salve-document",
            &[
                "jsonschema",
                "schemars",
                "serde",
                "serde-saphyr",
                "serde_json",
                "strsim",
                "thiserror",
            ][..],
        ),
    ]);
    for (package, allowed) in allowed {
        let found: Vec<_> = packages[package].iter().map(String::as_str).collect();
        assert_eq!(found, allowed, "a new crate in {package} is an architectural change");
    }
}

#[test]
fn a_capability_has_the_same_name_in_all_crates() {
    let root = root();
    for capability in salve_core::capability::Capability::interfaces() {
        let name = capability.name().replace('-', "_");
        let mut files = vec![
            format!("wit/{}.wit", capability.name()),
            format!("host/core/src/capability/{name}.rs"),
            format!("host/sandbox/src/capability/{name}.rs"),
        ];
        // Its calls are answered without a cluster.
        if capability != salve_core::capability::Capability::Run {
            files.push(format!("host/kubernetes/src/capability/{name}.rs"));
        }
        for file in files {
            assert!(root.join(&file).exists(), "{file} is missing");
        }
    }
}

/// A reader of calls asks them; only their own modules know which function they are.
#[test]
fn only_capability_modules_match_on_functions() {
    // The host's own functions: those that each run needs, those of a connection and its
    // credential, and what `undo` recreates.
    let exceptions = BTreeSet::from([
        "host/cli/src/commands/undo.rs",
        "host/core/src/permission/needs.rs",
        "host/kubernetes/src/cluster.rs",
        "host/kubernetes/src/connect.rs",
    ]);
    let groups = ["Read::", "Write::", "Reversal::", "Function::"];
    let variants: BTreeSet<String> =
        salve_core::capability::Function::ALL.iter().map(|f| format!("{f:?}")).collect();
    let mut found = vec![];
    visit(&root().join("host"), &mut |path, text| {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        let is_product = name.contains("/src/") && !name.contains("test");
        if !is_product || name.contains("/capability/") || exceptions.contains(name.as_str()) {
            return;
        }
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        for group in groups {
            for (at, _) in product.match_indices(group) {
                let rest = &product[at + group.len()..];
                let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
                let is_path = product[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                if !is_path && variants.contains(&rest[..end]) {
                    found.push(format!("{name}: {group}{}", &rest[..end]));
                }
            }
        }
    });
    assert_eq!(found, [""; 0]);
}

/// A capability is named in its own modules, in the table, and in few other places.
#[test]
fn a_capability_is_named_in_at_most_six_other_product_files() {
    let mut named: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let capabilities: Vec<_> = salve_core::capability::Capability::interfaces()
        .filter(|c| c.access() != salve_core::capability::Access::Builtin)
        .map(|c| (c.name(), c.name().replace('-', "_")))
        .collect();
    for folder in ["host/core", "host/run", "host/kubernetes", "host/sandbox", "host/cli"] {
        visit(&root().join(folder).join("src"), &mut |path, text| {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (interface, module) in &capabilities {
                let is_own = name.contains(&format!("/{module}")) || name.ends_with("table.rs");
                let mentions = product.contains(*interface) || product.contains(module.as_str());
                if mentions && !is_own && !name.contains("test") {
                    named.entry(interface).or_default().push(name.clone());
                }
            }
        });
    }
    for (capability, files) in named {
        assert!(files.len() <= 6, "{capability} is named in {}", files.join(", "));
    }
}

#[test]
fn only_the_cache_of_compiled_code_contains_unsafe_code() {
    let mut found = vec![];
    for folder in ["host", "guests", "tests/src", "xtask", "examples"] {
        visit(&root().join(folder), &mut |path, text| {
            if text.lines().any(|l| {
                !l.trim_start().starts_with("//")
                    && (l.contains("unsafe {")
                        || l.contains("unsafe fn")
                        || l.contains("unsafe impl"))
            }) {
                found.push(
                    path.strip_prefix(root())
                        .expect("the file is in the repository")
                        .display()
                        .to_string(),
                );
            }
        });
    }
    assert_eq!(found, ["host/sandbox/src/cache.rs"]);
}

/// Calls `f` with each `.rs` file below `folder` and its text.
fn visit(folder: &Path, f: &mut impl FnMut(&Path, &str)) {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target") {
                visit(&path, f);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            f(&path, &std::fs::read_to_string(&path).expect("the source file is readable"));
        }
    }
}
