//! The shipped component: its imports, its grants, and its reproducible build.

use salve_core::capability::Access;
use salve_core::digest::of_bytes;
use salve_guest_builder::{Project, copy};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn shipped_component() -> Vec<u8> {
    salve::guest::find_component("volsync-unlock").unwrap().bytes
}

#[test]
fn it_imports_only_the_interfaces_that_it_uses_and_no_wasi() {
    let inspection = salve_sandbox::inspect(&shipped_component()).unwrap();
    let imports: BTreeSet<_> = inspection
        .imports
        .iter()
        .map(|i| i.name.trim_start_matches("salve:cluster/").trim_end_matches("@0.1.0"))
        .collect();
    let expected = BTreeSet::from([
        // Not capabilities.
        "types",
        "report",
        "reversals",
        "run",
        "query-flux",
        "query-replicationsources",
        "query-pvcs",
        "query-drivers",
        "query-pods",
        "query-objects",
        "tail-logs",
        "suspend-flux",
        "reconcile-flux",
        "delete-replicationsources",
        "restart-deployment",
    ]);
    assert_eq!(imports, expected);
    assert_eq!(
        imports.len(),
        inspection.imports.len(),
        "every import is of package salve:cluster and version 0.1.0: {:?}",
        inspection.imports
    );
    assert!(inspection.wasi().is_empty());
}

#[test]
fn its_grants_name_exactly_the_writes_that_it_imports() {
    let salve::guest::Component { bytes, remediation, .. } =
        salve::guest::find_component("volsync-unlock").unwrap();
    let remediation = remediation.map(|(remediation, _)| remediation);
    let writes: BTreeSet<_> =
        salve_sandbox::inspect(&bytes).unwrap().capabilities(Access::Write).into_iter().collect();
    let granted = remediation.unwrap().spec.grants.into_iter().map(|grant| grant.capability);
    let granted: BTreeSet<_> =
        granted.filter(|capability| capability.access() == Access::Write).collect();
    assert_eq!(writes, granted);
}

#[test]
fn its_role_is_the_output_of_salve_rbac() {
    let salve = salve_tests::salve::program().unwrap();
    let printed =
        std::process::Command::new(salve).args(["rbac", "volsync-unlock"]).output().unwrap();
    let shipped = std::fs::read_to_string(root().join("guests/volsync-unlock/role.yaml")).unwrap();
    assert!(printed.status.success());
    assert_eq!(
        String::from_utf8_lossy(&printed.stdout),
        shipped,
        "to update: salve rbac volsync-unlock > guests/volsync-unlock/role.yaml"
    );
    for forbidden in ["secrets", "escalate", "impersonate", "resources: [\"*\"", "verbs: [\"*\""] {
        assert!(!shipped.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn builds_in_different_folders_are_byte_for_byte_identical() {
    let folder = tempfile::tempdir().unwrap();
    let build = |name: &str| {
        let copied = folder.path().join(name);
        copy(&root(), &copied).unwrap();
        let built = Project { root: &copied, package: "volsync-unlock", profile: "guest" }
            .component(&copied.join("target"))
            .unwrap();
        of_bytes(&std::fs::read(built).unwrap())
    };
    let first = build("one");
    assert_eq!(first, build("a-rather-different/and-deeper/folder"));
    assert_eq!(
        first,
        of_bytes(&shipped_component()),
        "the shipped component differs from a build of its sources"
    );
}
