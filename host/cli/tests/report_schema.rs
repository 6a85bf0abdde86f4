//! JSON reports match the schema published in `schemas/`.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

fn salve(home: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_salve"));
    command
        .args(arguments)
        .env("HOME", home)
        .env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    command.stderr(Stdio::null()).output().unwrap().stdout
}

#[test]
fn json_reports_match_the_published_schema() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/report.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let home = tempfile::tempdir().unwrap();
    let runs = home.path().join("runs").display().to_string();
    salve(home.path(), &["demo", "--runs", &runs]);
    let mut reports: Vec<Value> = vec![];
    for file in salve::runs::all(Path::new(&runs)).unwrap() {
        let report: Value = serde_json::from_slice(&salve(
            home.path(),
            &["report", &file.display().to_string(), "--as", "json"],
        ))
        .unwrap();
        let errors: Vec<_> =
            validator.iter_errors(&report).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}", errors.join("\n"));
        reports.push(report);
    }
    reports.sort_by_key(|report| report["verdict"].as_str().map(str::to_owned));
    assert_eq!(
        reports.iter().map(|report| &report["verdict"]).collect::<Vec<_>>(),
        ["fixed", "planned"]
    );
    let report = reports.remove(0);
    // The schema rejects unknown values and keys.
    let mut invalid = report.clone();
    invalid["verdict"] = "splendid".into();
    assert!(!validator.is_valid(&invalid));
    invalid = report;
    invalid["surprise"] = true.into();
    assert!(!validator.is_valid(&invalid));
}
