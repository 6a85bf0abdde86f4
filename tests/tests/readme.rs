//! Checks the README against the program: the transcript, the policy, and the commands.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns the first code block of the README in a language.
fn block(language: &str) -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let begin = readme.find(&format!("```{language}\n")).unwrap() + language.len() + 4;
    readme[begin..begin + readme[begin..].find("```").unwrap()].to_owned()
}

#[test]
fn the_transcript_matches_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let salve = salve_tests::salve::program().unwrap();
    let output = Command::new(salve)
        .arg("demo")
        .env("NO_COLOR", "1")
        .env("XDG_CACHE_HOME", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let printed: Vec<&str> = text.lines().map(str::trim_end).collect();
    // Ignores durations at the end of a line: virtual time depends on the number of
    // requests.
    let is_printed = |line: &str| {
        let without_duration = line.rsplit_once("   ").map(|(start, _)| start);
        printed.iter().any(|output| {
            *output == line || without_duration.is_some_and(|start| output.starts_with(start))
        })
    };
    let missing: Vec<_> = block("text")
        .lines()
        .map(|line| line.trim_end().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('$') && line.trim() != "…")
        .filter(|line| !is_printed(line))
        .collect();
    assert!(missing.is_empty(), "the demo does not print:\n{}", missing.join("\n"));
}

#[test]
fn the_policy_narrows_the_shipped_guest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    std::fs::write(&path, block("yaml")).unwrap();
    let inspect = Command::new(salve_tests::salve::program().unwrap())
        .args(["inspect", "volsync-unlock", "--policy"])
        .arg(&path)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&inspect.stdout);
    assert_eq!(
        inspect.status.code(),
        Some(3),
        "the policy only grants one of several capabilities: {output}"
    );
    assert!(
        output.contains("home-automation, media; only with the labels tier notin (database), !keep; only movers restic; at most 10 deletions"),
        "{output}"
    );
}

#[test]
fn every_command_in_the_readme_exists() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let help = Command::new(salve_tests::salve::program().unwrap()).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    // At the start of a line or of a code span.
    for prefix in ["\nsalve ", "`salve "] {
        for (i, _) in readme.match_indices(prefix) {
            let rest = &readme[i + prefix.len()..];
            let command: String = rest.chars().take_while(|c| c.is_ascii_lowercase()).collect();
            assert!(
                command.is_empty() || help.contains(&format!("\n  {command} ")),
                "`salve {command}` is in the README but not in --help"
            );
        }
    }
}
