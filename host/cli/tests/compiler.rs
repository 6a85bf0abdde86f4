//! Compilation in a child process, with limits for components that are expensive to compile.

use salve::compiler::{Allowance, compile_in_process};
use salve_sandbox::LoadError;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_salve"))
}

/// Returns a component that is expensive to compile: many long functions, each with many locals
/// that are live in all of its blocks.
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

/// Serializes the tests that start compilers, so that they can be counted.
static COMPILERS: Mutex<()> = Mutex::new(());

/// Returns the number of child processes that compile.
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
fn the_child_process_produces_the_same_code_as_this_one() {
    let _guard = COMPILERS.lock().unwrap();
    let guest = salve::guest::find_component("volsync-unlock").unwrap().bytes;
    let code = compile_in_process(program(), &guest, Allowance::default()).unwrap();
    assert_eq!(code, salve_sandbox::compile(&guest).unwrap());
}

#[test]
fn a_damaged_component_is_reported_as_damaged() {
    let _guard = COMPILERS.lock().unwrap();
    let broken =
        compile_in_process(program(), b"\0asm\x0d\0\x01\0\xff", Allowance::default()).unwrap_err();
    assert!(matches!(broken, LoadError::Damaged(_)), "{broken}");
}

#[test]
fn compilation_stops_at_its_time_and_memory_limits() {
    let _guard = COMPILERS.lock().unwrap();
    let bomb = bomb();
    for (allowance, message) in [
        (Allowance { seconds: 1, mib: 2048 }, "within 1 s"),
        (Allowance { seconds: 120, mib: 48 }, "48 MiB"),
    ] {
        let error = compile_in_process(program(), &bomb, allowance).unwrap_err();
        assert!(matches!(error, LoadError::Compiling { .. }), "{error}");
        assert!(
            error.to_string().contains(message) && error.to_string().contains("build it smaller"),
            "{error}"
        );
    }
    // The error is returned only after the child has exited.
    assert_eq!(compilers(), 0);
}

#[test]
fn a_lower_existing_memory_limit_is_kept() {
    let guest = salve::guest::find_component("volsync-unlock").unwrap().bytes;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guest.wasm");
    std::fs::write(&file, &guest).unwrap();
    // Much less than the allowance, but enough for this guest.
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
fn the_subcommand_is_internal() {
    let output = Command::new(program()).arg(salve::compiler::SUBCOMMAND).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("internal"));
}
