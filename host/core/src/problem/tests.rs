use super::*;
use crate::document::{Remediation, RemediationPolicy};

const OK: &str = "apiVersion: salve.dev/v1alpha1
kind: Remediation
metadata: {name: r}
spec:
  grants: []
  problems:
  - name: locks
    read: {capability: tail-logs, namespaces: [rook-*], names: [driver], containers: [csi-*]}
    pattern: already exists
    window: 5m
  - name: locked
    read: {capability: query-pvcs, namespaces: [media], drivers: ['*.csi.ceph.com']}
    states: [csi-locked]
    clearedBy: HealthyOrGone
    window: 1m30s
";

fn read(text: &str) -> Result<Vec<Problem>, String> {
    let remediation = Remediation::read(text, "r.yaml").map_err(|error| error.to_string())?;
    Ok(remediation.spec.problems)
}

#[test]
fn problems_are_read_and_written() {
    let problems = read(OK).unwrap();
    let [locks, locked] = problems.as_slice() else { panic!("{problems:?}") };
    assert!(locks.pattern.as_ref().unwrap().matches("x already exists"));
    assert_eq!(locks.cleared_by, ClearedBy::Healthy);
    assert!(locks.read.covers("rook-ceph", "driver") && !locks.read.covers("rook-ceph", "other"));
    assert!(locks.read.covers_container("csi-plugin") && !locks.read.covers_container("log"));
    assert_eq!((locked.window.millis(), locked.cleared_by), (90_000, ClearedBy::HealthyOrGone));
    assert_eq!(locked.read.covers_driver(Some("rbd.csi.ceph.com")), Some(true));
    assert_eq!(locked.read.covers_driver(Some("smb.csi.k8s.io")), Some(false));
    assert_eq!(locked.read.covers_driver(None), None);
    // As the journal has them.
    let text = serde_json::to_string(&problems).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Problem>>(&text).unwrap(), problems);
}

#[test]
fn a_problem_that_cannot_be_evaluated_is_rejected_with_its_line() {
    for (from, to, expected) in [
        (
            "csi-locked",
            "csi-lokced",
            "r.yaml:13: spec.problems[1].states: query-pvcs has no state \"csi-lokced\"; did you \
             mean \"csi-locked\"?",
        ),
        // An event that has expired is no longer known.
        ("csi-locked", "unknown", "has no state \"unknown\""),
        (
            "    states: [csi-locked]\n",
            "",
            "r.yaml:11: spec.problems[1]: states is missing: query-pvcs shows",
        ),
        (
            "states: [csi-locked]",
            "pattern: x",
            "r.yaml:13: spec.problems[1].pattern: does not apply to query-pvcs: use `states`",
        ),
        (
            "    pattern: already exists\n",
            "",
            "r.yaml:7: spec.problems[0]: pattern is missing: tail-logs shows",
        ),
        (
            "pattern: already exists",
            "states: [csi-locked]",
            "r.yaml:9: spec.problems[0].states: does not apply to tail-logs: use `pattern`",
        ),
        (
            "pattern: already",
            "patern: already",
            "r.yaml:9: spec.problems[0]: unknown key \"patern\"; did you mean \"pattern\"?",
        ),
        ("already exists", "'('", "is not a valid regular expression"),
        ("already exists", "'.*'", "\".*\" matches every line"),
        (
            "capability: query-pvcs",
            "capability: query-flux",
            "r.yaml:12: spec.problems[1].read.capability: unknown value \"query-flux\"; ",
        ),
        (
            "namespaces: [media]",
            "namespaces: ['*']",
            "r.yaml:12: spec.problems[1].read.namespaces: \"*\" is a pattern: list the namespaces",
        ),
        (
            "drivers: [",
            "containers: [",
            "r.yaml:12: spec.problems[1].read.containers: applies to tail-logs only",
        ),
        (
            "containers: [",
            "drivers: [",
            "r.yaml:8: spec.problems[0].read.drivers: applies to query-pvcs only",
        ),
        (
            "name: locked",
            "name: locks",
            "r.yaml:11: spec.problems[1].name: another problem is named \"locks\"",
        ),
        (
            "HealthyOrGone",
            "Absent",
            "unknown value \"Absent\"; known values: Healthy, Gone, HealthyOrGone",
        ),
        (
            "window: 5m",
            "window: 5",
            "r.yaml:10: spec.problems[0].window: 5 is not of type \"string\"",
        ),
        ("window: 5m", "window: 25h", "\"25h\" is not a duration of 1s to 24h"),
        ("    window: 5m\n", "", "r.yaml:7: spec.problems[0]: window is missing"),
    ] {
        let error = read(&OK.replacen(from, to, 1)).expect_err(to);
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[test]
fn a_policy_adds_problems_and_only_lengthens_windows() {
    let policy = |problems: &str| {
        let head = "apiVersion: salve.dev/v1alpha1\nkind: RemediationPolicy\nmetadata: {name: p}\n";
        RemediationPolicy::read(&format!("{head}spec:\n  grants: []\n{problems}"), "p.yaml")
            .unwrap()
            .spec
    };
    let windows = |locks: &str| {
        let text = format!("  windows: [{{problem: locks, window: {locks}}}]\n");
        let spec = policy(&text);
        let merged = merged(read(OK).unwrap(), spec.problems, &spec.windows).unwrap();
        merged.iter().map(|problem| problem.window.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(windows("10m"), ["10m", "1m30s"]);
    assert_eq!(windows("1s"), ["5m", "1m30s"]);

    let added = policy(
        "  problems:\n  - name: unready\n    read: {capability: query-pods, namespaces: [media]}\n    \
         states: [not-ready]\n    window: 1m\n",
    );
    let names = |problems: Vec<Problem>| {
        problems.into_iter().map(|problem| problem.name).collect::<Vec<_>>()
    };
    let all = merged(read(OK).unwrap(), added.problems.clone(), &[]).unwrap();
    assert_eq!(names(all), ["locks", "locked", "unready"]);
    let error = merged(added.problems.clone(), added.problems, &[]).unwrap_err();
    assert!(error.contains("\"unready\" as well"), "{error}");
}
