//! Invalid input that is rejected before a cluster is contacted, and commands that need no cluster.

use std::path::Path;
use std::process::{Command, Output};

fn salve(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_salve"))
        .args(arguments)
        .env_remove("KUBECONFIG")
        .env("HOME", home)
        .env("XDG_CACHE_HOME", shared_cache())
        .env("XDG_STATE_HOME", home.join("state"))
        .env("NO_COLOR", "1")
        .current_dir(home)
        .output()
        .expect("salve starts")
}

/// Returns the cache of compiled components, which all tests of this build share.
fn shared_cache() -> &'static str {
    concat!(env!("CARGO_TARGET_TMPDIR"), "/cache")
}

#[track_caller]
fn assert_output(output: &Output, code: i32, expected: &[&str]) {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in expected {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

fn file(home: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    std::fs::write(home.join(name), text).unwrap();
    name.into()
}

const POLICY: &str = "\
apiVersion: salve.dev/v1alpha1
kind: RemediationPolicy
metadata: {name: p}
spec:
  grants: []
";

#[test]
fn an_unknown_guest_lists_the_shipped_ones() {
    let home = tempfile::tempdir().unwrap();
    assert_output(&salve(home.path(), &["inspect", "volsink"]), 2, &["volsink", "volsync-unlock"]);
}

#[test]
fn a_component_without_documents_has_no_grants() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "a.wasm", b"\0asm\x0d\0\x01\0");
    assert_output(&salve(home.path(), &["run", &path, "--yes"]), 2, &["--remediation", "--policy"]);
}

#[test]
fn files_that_are_not_components_are_rejected() {
    let home = tempfile::tempdir().unwrap();
    let text = file(home.path(), "text.wasm", "hello");
    assert_output(&salve(home.path(), &["inspect", &text]), 2, &["text.wasm"]);
    let module = file(home.path(), "module.wasm", b"\0asm\x01\0\0\0");
    assert_output(&salve(home.path(), &["inspect", &module]), 2, &["module.wasm", "component"]);
}

#[test]
fn a_misspelled_key_is_reported_with_the_existing_ones() {
    let home = tempfile::tempdir().unwrap();
    assert_output(
        &salve(
            home.path(),
            &["check", "volsync-unlock", "--config", "stabilisationWindowSeconds=3"],
        ),
        2,
        &["stabilisationWindowSeconds", "stabilizationWindowSeconds", "namespaces"],
    );
    assert_output(
        &salve(
            home.path(),
            &["check", "volsync-unlock", "--config", "stabilizationWindowSeconds=soon"],
        ),
        2,
        &["stabilizationWindowSeconds"],
    );
    assert_output(
        &salve(home.path(), &["check", "volsync-unlock", "--config", "stabilizationWindowSeconds"]),
        2,
        &["KEY=VALUE"],
    );
}

#[test]
fn an_invalid_policy_is_reported_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "policy.yaml", POLICY.replace("grants: []", "grant: []"));
    assert_output(
        &salve(home.path(), &["check", "volsync-unlock", "--policy", &path]),
        2,
        &["policy.yaml", "grant"],
    );
    assert_output(
        &salve(home.path(), &["check", "volsync-unlock", "--policy", "absent.yaml"]),
        2,
        &["absent.yaml"],
    );
}

#[test]
fn a_policy_without_write_grants_denies_the_run_and_names_all_writes() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "policy.yaml", POLICY);
    let writes =
        ["suspend-flux", "reconcile-flux", "delete-replicationsources", "restart-deployment"];
    assert_output(
        &salve(home.path(), &["run", "volsync-unlock", "--yes", "--policy", &path]),
        3,
        &writes,
    );
}

#[test]
fn a_policy_with_other_digests_denies_the_component() {
    let home = tempfile::tempdir().unwrap();
    let digests = |digest: &str| {
        file(
            home.path(),
            "policy.yaml",
            POLICY.replace("grants: []", &format!("grants: []\n  digests: [sha256:{digest}]")),
        )
    };
    assert_output(
        &salve(home.path(), &["check", "volsync-unlock", "--policy", &digests("00")]),
        2,
        &["policy.yaml:6: spec.digests[0]: ", "sha256:00"],
    );
    let path = digests(&"0".repeat(64));
    assert_output(
        &salve(home.path(), &["check", "volsync-unlock", "--policy", &path]),
        3,
        &["digests", "sha256:"],
    );
}

#[test]
fn a_run_without_a_terminal_requires_yes() {
    let home = tempfile::tempdir().unwrap();
    assert_output(&salve(home.path(), &["run", "volsync-unlock"]), 2, &["--yes"]);
}

#[test]
fn an_unreachable_api_server_exits_with_4() {
    let home = tempfile::tempdir().unwrap();
    // A port that was just free, so nothing listens on it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: home\nclusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n\
         users: [{{name: u, user: {{}}}}]\ncontexts: [{{name: home, context: {{cluster: c, user: u}}}}]\n"
    );
    let path = file(home.path(), "kubeconfig", text);
    assert_output(
        &salve(home.path(), &["check", "volsync-unlock", "--kubeconfig", &path]),
        4,
        &["127.0.0.1"],
    );
    assert_output(&salve(home.path(), &["doctor", "--kubeconfig", &path]), 4, &["127.0.0.1"]);
    assert_output(
        &salve(
            home.path(),
            &["check", "volsync-unlock", "--kubeconfig", &path, "--context", "away"],
        ),
        2,
        &["away", "home"],
    );
}

#[test]
fn a_missing_or_invalid_kubeconfig_is_reported() {
    let home = tempfile::tempdir().unwrap();
    assert_output(
        &salve(home.path(), &["check", "volsync-unlock", "--kubeconfig", "absent"]),
        2,
        &["absent"],
    );
    let path = file(home.path(), "broken", "{");
    assert_output(
        &salve(home.path(), &["check", "volsync-unlock", "--kubeconfig", &path]),
        2,
        &["broken"],
    );
    assert_output(&salve(home.path(), &["check", "volsync-unlock"]), 2, &["kubeconfig"]);
}

#[test]
fn the_printed_contract_can_be_parsed() {
    let home = tempfile::tempdir().unwrap();
    let printed = salve(home.path(), &["wit"]);
    assert_output(
        &printed,
        0,
        &["package salve:cluster@0.1.0", "interface suspend-flux", "world remediation"],
    );
    assert_output(&salve(home.path(), &["wit", "--to", "contract"]), 0, &[]);
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_dir(home.path().join("contract")).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_str("printed.wit", &String::from_utf8(printed.stdout).unwrap()).unwrap();
}

#[test]
fn inspect_shows_imports_next_to_grants() {
    let home = tempfile::tempdir().unwrap();
    let output = salve(home.path(), &["inspect", "volsync-unlock"]);
    assert_output(
        &output,
        0,
        &[
            "Reads",
            "Writes",
            "delete-replicationsources",
            "at most 100 deletions per run",
            "no WASI",
            "memory 64 MiB",
            "Digests",
            "stabilizationWindowSeconds",
            "seconds",
        ],
    );
    let json = salve(home.path(), &["inspect", "volsync-unlock", "--output", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(document["kind"], "Inspection");
    assert_eq!(
        document["writes"],
        serde_json::json!([
            "suspend-flux",
            "reconcile-flux",
            "delete-replicationsources",
            "restart-deployment"
        ])
    );
    let row = |name: &str| {
        document["permission"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["capability"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(row("query-flux")["functions"], serde_json::json!(["find-owners", "get"]));
    assert_eq!(
        (&document["upperBound"], &row("restart-deployment")["missing"]),
        (&false.into(), &false.into())
    );
}

#[test]
fn inspect_names_imports_that_a_policy_does_not_grant() {
    let home = tempfile::tempdir().unwrap();
    let grants = "grants:\n  - {capability: restart-deployment, namespaces: [rook-ceph], names: [\"*-provisioner\"]}";
    let path = file(home.path(), "policy.yaml", POLICY.replace("grants: []", grants));
    let output = salve(home.path(), &["inspect", "volsync-unlock", "--policy", &path]);
    assert_output(
        &output,
        3,
        &[
            "MISSING in ",
            "policy.yaml: every call is denied",
            "- {capability: suspend-flux",
            "only names *-provisioner; at most 1 restart per run",
        ],
    );
    let json =
        salve(home.path(), &["inspect", "volsync-unlock", "--policy", &path, "--output", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let missing = document["permission"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["missing"] == true)
        .count();
    assert_eq!((json.status.code(), missing), (Some(3), 10));
}

#[test]
fn completions_contain_the_commands() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        assert_output(&salve(home.path(), &["completions", shell]), 0, &["doctor"]);
    }
}

#[test]
fn every_command_has_help_and_the_exit_codes_are_listed() {
    let home = tempfile::tempdir().unwrap();
    assert_output(
        &salve(home.path(), &["--help"]),
        0,
        &["salve demo", "Exit codes", "manual action required"],
    );
    for command in [
        "demo",
        "check",
        "plan",
        "run",
        "recover",
        "report",
        "replay",
        "undo",
        "runs",
        "inspect",
        "rbac",
        "doctor",
        "sim",
        "wit",
        "completions",
    ] {
        assert_output(&salve(home.path(), &[command, "--help"]), 0, &["Usage"]);
    }
}
