//! Compiling in a process of its own: what a component can do to it, and what it cannot.

use salve::compiler::{Allowance, elsewhere};
use salve_sandbox::LoadError;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_salve"))
}

/// A component that any compiler chews on: many functions, each long, with many locals that meet in each of its blocks.
fn bomb() -> Vec<u8> {
    let locals = (0..2000).map(|n| format!("(local $l{n} i64)")).collect::<String>();
    let body: String = (0..4000)
        .map(|n| {
            format!(
                "(if (i64.eqz (local.get $l{})) (then (local.set $l{} (i64.add (local.get $l{}) (i64.const {n})))))",
                n % 2000,
                (n * 7) % 2000,
                (n * 13) % 2000
            )
        })
        .collect();
    let functions = format!("(func {locals} {body})").repeat(64);
    wat::parse_str(format!("(component (core module {functions}))")).unwrap()
}

/// One test at a time starts compilers, so that one can count them.
static ONE: Mutex<()> = Mutex::new(());

/// Children of this process that compile.
fn compilers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|task| task.unwrap().path().join("children"));
    let children: String =
        tasks.filter_map(|file| std::fs::read_to_string(file).ok()).collect::<Vec<_>>().join(" ");
    let compiles = |id: &&str| {
        std::fs::read_to_string(format!("/proc/{id}/cmdline"))
            .is_ok_and(|line| line.contains(salve::compiler::SUBCOMMAND))
    };
    children.split_whitespace().filter(compiles).count()
}

#[test]
fn an_ordinary_component_is_compiled_to_what_this_process_would_make() {
    let _one = ONE.lock().unwrap();
    let guest = salve::guest::component("volsync-unlock").unwrap().bytes;
    let code = elsewhere(program(), &guest, Allowance::default()).unwrap();
    assert_eq!(code, salve_sandbox::compile(&guest).unwrap());
}

#[test]
fn what_is_damaged_is_its_authors_fault() {
    let _one = ONE.lock().unwrap();
    let broken = elsewhere(program(), b"\0asm\x0d\0\x01\0\xff", Allowance::default()).unwrap_err();
    assert!(matches!(broken, LoadError::Damaged(_)), "{broken}");
}

#[test]
fn a_bomb_ends_when_its_time_or_its_memory_is_over() {
    let _one = ONE.lock().unwrap();
    let bomb = bomb();
    for (allowance, words) in [
        (Allowance { seconds: 1, mib: 2048 }, "within 1 s"),
        (Allowance { seconds: 120, mib: 48 }, "48 MiB"),
    ] {
        let ended = elsewhere(program(), &bomb, allowance).unwrap_err();
        assert!(matches!(ended, LoadError::Compiling { .. }), "{ended}");
        assert!(
            ended.to_string().contains(words) && ended.to_string().contains("build it smaller"),
            "{ended}"
        );
    }
    // Each is waited for before its end is told: no child of this test is left.
    assert_eq!(compilers(), 0);
}

#[test]
fn a_limit_that_was_lower_before_is_kept() {
    let guest = salve::guest::component("volsync-unlock").unwrap().bytes;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guest.wasm");
    std::fs::write(&file, &guest).unwrap();
    // Far less than the allowance, and enough for this guest.
    let line = r#"ulimit -d 524288 && exec "$0" "$1" 120 2048 < "$2""#;
    let output = Command::new("sh")
        .args(["-c", line])
        .arg(program())
        .arg(salve::compiler::SUBCOMMAND)
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        output.status.success() && !output.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_word_is_for_salve_itself() {
    let output = Command::new(program()).arg(salve::compiler::SUBCOMMAND).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("for Salve itself"));
}
