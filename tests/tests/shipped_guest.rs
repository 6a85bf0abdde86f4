//! The component that ships: what it imports, and that it is the same wherever it is built.

use salve_core::digest::of_bytes;
use salve_guest_builder::{Project, copy};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn shipped() -> Vec<u8> {
    salve::guest::component("volsync-unlock").unwrap().bytes
}

#[test]
fn it_imports_the_interfaces_that_it_uses_and_no_wasi() {
    let inspection = salve_sandbox::inspect(&shipped()).unwrap();
    let imports: BTreeSet<_> = inspection
        .imports
        .iter()
        .map(|i| i.name.trim_start_matches("salve:cluster/").trim_end_matches("@0.1.0"))
        .collect();
    let wanted = BTreeSet::from([
        // Words without functions.
        "types",
        "report",
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
    assert_eq!(imports, wanted);
    assert_eq!(
        imports.len(),
        inspection.imports.len(),
        "every import is of our package and version: {:?}",
        inspection.imports
    );
    assert!(inspection.wasi().is_empty());
}

#[test]
fn its_grants_name_every_touch_that_it_imports_and_no_other() {
    let salve::guest::Component { bytes, remediation, .. } =
        salve::guest::component("volsync-unlock").unwrap();
    let remediation = remediation.map(|(remediation, _)| remediation);
    let writes: BTreeSet<_> = salve_sandbox::inspect(&bytes)
        .unwrap()
        .capabilities(salve_core::effect::Access::Write)
        .into_iter()
        .map(String::from)
        .collect();
    let granted = remediation.unwrap().spec.grants.into_iter().map(|g| g.capability);
    let granted: BTreeSet<_> = granted
        .filter(|c| salve_core::effect::access_of(c) == Some(salve_core::effect::Access::Write))
        .collect();
    assert_eq!(writes, granted);
}

#[test]
fn its_role_is_what_rbac_prints() {
    let salve = salve_tests::salve::program().unwrap();
    let printed =
        std::process::Command::new(salve).args(["rbac", "volsync-unlock"]).output().unwrap();
    let shipped = std::fs::read_to_string(root().join("guests/volsync-unlock/role.yaml")).unwrap();
    assert!(printed.status.success());
    assert_eq!(
        String::from_utf8_lossy(&printed.stdout),
        shipped,
        "salve rbac volsync-unlock > guests/volsync-unlock/role.yaml"
    );
    for forbidden in ["secrets", "escalate", "impersonate", "resources: [\"*\"", "verbs: [\"*\""] {
        assert!(!shipped.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn built_in_two_folders_it_is_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let build = |name: &str| {
        let copied = folder.path().join(name);
        copy(&root(), &copied).unwrap();
        let built = Project { root: &copied, package: "volsync-unlock", profile: "guest" }
            .component(&copied.join("target"))
            .unwrap();
        of_bytes(&std::fs::read(built).unwrap())
    };
    let one = build("one");
    assert_eq!(one, build("a-rather-different/and-deeper/folder"));
    assert_eq!(one, of_bytes(&shipped()), "what ships is what anybody builds");
}
