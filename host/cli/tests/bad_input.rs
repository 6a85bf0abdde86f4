//! What a person can get wrong before anything is asked of a cluster: each is said, with whose fault it is.

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

/// Compiled components are the same for all tests of this build.
fn shared_cache() -> &'static str {
    concat!(env!("CARGO_TARGET_TMPDIR"), "/cache")
}

#[track_caller]
fn says(output: &Output, code: i32, words: &[&str]) {
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{told}");
    for word in words {
        assert!(told.contains(word), "{word:?} is missing in:\n{told}");
    }
}

fn file(home: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    std::fs::write(home.join(name), text).unwrap();
    name.into()
}

const POLICY: &str =
    "apiVersion: salve.dev/v1alpha1\nkind: Policy\nmetadata: {name: p}\nspec:\n  grants: []\n";

#[test]
fn an_unknown_guest_names_those_that_are_shipped() {
    let home = tempfile::tempdir().unwrap();
    says(&salve(home.path(), &["inspect", "volsink"]), 2, &["volsink", "volsync-unlock"]);
}

#[test]
fn a_bare_component_has_no_grants() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "a.wasm", b"\0asm\x0d\0\x01\0");
    says(&salve(home.path(), &["run", &path, "--yes"]), 2, &["--remediation", "--policy"]);
}

#[test]
fn what_is_no_component_is_told_apart() {
    let home = tempfile::tempdir().unwrap();
    let text = file(home.path(), "text.wasm", "hello");
    says(&salve(home.path(), &["inspect", &text]), 2, &["text.wasm"]);
    let module = file(home.path(), "module.wasm", b"\0asm\x01\0\0\0");
    says(&salve(home.path(), &["inspect", &module]), 2, &["module.wasm", "component"]);
}

#[test]
fn a_misspelt_key_is_named_with_those_that_exist() {
    let home = tempfile::tempdir().unwrap();
    says(
        &salve(home.path(), &["check", "volsync-unlock", "--config", "setle=3"]),
        2,
        &["setle", "settle", "namespaces"],
    );
    says(
        &salve(home.path(), &["check", "volsync-unlock", "--config", "settle=soon"]),
        2,
        &["settle"],
    );
    says(
        &salve(home.path(), &["check", "volsync-unlock", "--config", "settle"]),
        2,
        &["KEY=VALUE"],
    );
}

#[test]
fn a_broken_policy_is_named_with_what_is_wrong() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "policy.yaml", POLICY.replace("grants: []", "grant: []"));
    says(
        &salve(home.path(), &["check", "volsync-unlock", "--policy", &path]),
        2,
        &["policy.yaml", "grant"],
    );
    says(
        &salve(home.path(), &["check", "volsync-unlock", "--policy", "absent.yaml"]),
        2,
        &["absent.yaml"],
    );
}

#[test]
fn a_policy_that_grants_no_touch_refuses_the_run_naming_all_of_them() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "policy.yaml", POLICY);
    let words =
        ["suspend-flux", "reconcile-flux", "delete-replicationsources", "restart-deployment"];
    says(&salve(home.path(), &["run", "volsync-unlock", "--yes", "--policy", &path]), 3, &words);
}

#[test]
fn a_policy_that_names_other_digests_refuses_the_component() {
    let home = tempfile::tempdir().unwrap();
    let digests = |digest: &str| {
        file(
            home.path(),
            "policy.yaml",
            POLICY.replace("grants: []", &format!("grants: []\n  digests: [sha256:{digest}]")),
        )
    };
    says(
        &salve(home.path(), &["check", "volsync-unlock", "--policy", &digests("00")]),
        2,
        &["policy.yaml:6: spec.digests[0]: ", "sha256:00"],
    );
    let path = digests(&"0".repeat(64));
    says(
        &salve(home.path(), &["check", "volsync-unlock", "--policy", &path]),
        3,
        &["digests", "sha256:"],
    );
}

#[test]
fn a_run_without_a_terminal_wants_yes() {
    let home = tempfile::tempdir().unwrap();
    says(&salve(home.path(), &["run", "volsync-unlock"]), 2, &["--yes"]);
}

#[test]
fn an_api_server_that_is_not_there_is_the_clusters_fault() {
    let home = tempfile::tempdir().unwrap();
    // A port that was free a moment ago and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: home\nclusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n\
         users: [{{name: u, user: {{}}}}]\ncontexts: [{{name: home, context: {{cluster: c, user: u}}}}]\n"
    );
    let path = file(home.path(), "kubeconfig", text);
    says(
        &salve(home.path(), &["check", "volsync-unlock", "--kubeconfig", &path]),
        4,
        &["127.0.0.1"],
    );
    says(&salve(home.path(), &["doctor", "--kubeconfig", &path]), 4, &["127.0.0.1"]);
    says(
        &salve(
            home.path(),
            &["check", "volsync-unlock", "--kubeconfig", &path, "--context", "away"],
        ),
        2,
        &["away", "home"],
    );
}

#[test]
fn a_missing_or_broken_kubeconfig_is_said() {
    let home = tempfile::tempdir().unwrap();
    says(
        &salve(home.path(), &["check", "volsync-unlock", "--kubeconfig", "absent"]),
        2,
        &["absent"],
    );
    let path = file(home.path(), "broken", "{");
    says(&salve(home.path(), &["check", "volsync-unlock", "--kubeconfig", &path]), 2, &["broken"]);
    says(&salve(home.path(), &["check", "volsync-unlock"]), 2, &["kubeconfig"]);
}

#[test]
fn the_contract_that_is_printed_can_be_written_and_read() {
    let home = tempfile::tempdir().unwrap();
    let printed = salve(home.path(), &["wit"]);
    says(
        &printed,
        0,
        &["package salve:cluster@0.1.0", "interface suspend-flux", "world remediation"],
    );
    says(&salve(home.path(), &["wit", "--to", "contract"]), 0, &[]);
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_dir(home.path().join("contract")).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_str("printed.wit", &String::from_utf8(printed.stdout).unwrap()).unwrap();
}

#[test]
fn inspect_lays_imports_beside_grants_on_one_screen() {
    let home = tempfile::tempdir().unwrap();
    let screen = salve(home.path(), &["inspect", "volsync-unlock"]);
    says(
        &screen,
        0,
        &[
            "looks",
            "touches",
            "delete-replicationsources",
            "at most 100 deletions in a run",
            "no WASI",
            "64 MiB of memory",
            "to sign",
            "settle",
            "seconds",
        ],
    );
    let json = salve(home.path(), &["inspect", "volsync-unlock", "--output", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(document["kind"], "Inspection");
    assert_eq!(
        document["touch"],
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
    assert_eq!(row("query-flux")["functions"], serde_json::json!(["owners", "get"]));
    assert_eq!(
        (&document["upperBound"], &row("restart-deployment")["missing"]),
        (&false.into(), &false.into())
    );
}

#[test]
fn inspect_names_what_a_policy_does_not_grant_and_what_nobody_uses() {
    let home = tempfile::tempdir().unwrap();
    let grants = "grants:\n  - {capability: restart-deployment, namespaces: [rook-ceph], names: [\"*-provisioner\"]}";
    let path = file(home.path(), "policy.yaml", POLICY.replace("grants: []", grants));
    let told = salve(home.path(), &["inspect", "volsync-unlock", "--policy", &path]);
    says(
        &told,
        3,
        &[
            "MISSING in ",
            "policy.yaml: each of its calls is denied",
            "- {capability: suspend-flux",
            "only those called *-provisioner; at most 1 restart in",
        ],
    );
    let bare =
        salve(home.path(), &["inspect", "volsync-unlock", "--policy", &path, "--output", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&bare.stdout).unwrap();
    let missing = document["permission"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["missing"] == true)
        .count();
    assert_eq!((bare.status.code(), missing), (Some(3), 10));
}

#[test]
fn completions_know_the_commands() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        says(&salve(home.path(), &["completions", shell]), 0, &["doctor"]);
    }
}

#[test]
fn help_teaches_and_names_the_exit_codes() {
    let home = tempfile::tempdir().unwrap();
    says(&salve(home.path(), &["--help"]), 0, &["salve demo", "Exit codes", "needs a person"]);
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
        says(&salve(home.path(), &[command, "--help"]), 0, &["Usage"]);
    }
}
