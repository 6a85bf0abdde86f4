//! The README says what is true: its transcript, its policy, its commands.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn block(fence: &str) -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let begin = readme.find(&format!("```{fence}\n")).unwrap() + fence.len() + 4;
    readme[begin..begin + readme[begin..].find("```").unwrap()].to_owned()
}

#[test]
fn its_transcript_is_what_the_demo_says() {
    let folder = tempfile::tempdir().unwrap();
    let salve = salve_tests::salve::program().unwrap();
    let output = Command::new(salve)
        .arg("demo")
        .env("NO_COLOR", "1")
        .env("XDG_CACHE_HOME", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    let said = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let said: Vec<&str> = said.lines().map(str::trim_end).collect();
    // How long the check took in virtual time depends on the number of requests alone, but is no promise.
    let told = |line: &str| {
        said.iter()
            .any(|s| *s == line || line.rsplit_once("   ").is_some_and(|(l, _)| s.starts_with(l)))
    };
    let missing: Vec<_> = block("text")
        .lines()
        .map(|l| l.trim_end().to_owned())
        .filter(|l| !l.is_empty() && !l.starts_with('$') && l.trim() != "…" && !told(l))
        .collect();
    assert!(missing.is_empty(), "the demo does not say:\n{}", missing.join("\n"));
}

#[test]
fn its_policy_is_one_that_narrows_the_shipped_guest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    std::fs::write(&path, block("yaml")).unwrap();
    let inspect = Command::new(salve_tests::salve::program().unwrap())
        .args(["inspect", "volsync-unlock", "--policy"])
        .arg(&path)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&inspect.stdout);
    assert_eq!(inspect.status.code(), Some(3), "it grants one capability of many: {told}");
    assert!(
        told.contains("home-automation, media; only with the labels tier notin (database), !keep; only of the movers restic; at most 10 deletions"),
        "{told}"
    );
}

#[test]
fn every_command_that_it_names_exists() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let help = Command::new(salve_tests::salve::program().unwrap()).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    // As typed: at the start of a line or of a code span.
    for mark in ["\nsalve ", "`salve "] {
        for (i, _) in readme.match_indices(mark) {
            let word: String =
                readme[i + mark.len()..].chars().take_while(|c| c.is_ascii_lowercase()).collect();
            assert!(
                word.is_empty() || help.contains(&format!("\n  {word} ")),
                "`salve {word}` is in the README and not in --help"
            );
        }
    }
}
