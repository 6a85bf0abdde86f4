//! Malformed guests, written in the WebAssembly text format because no compiler generates them.

use super::{CompletedRun, guest_writes, is_restored, plex, run};
use crate::guests::Guest;
use salve_core::outcome::Fault;
use salve_core::report::Verdict;
use salve_run::Mode;

/// A malformed guest and the expected result of running it.
pub struct MalformedGuest {
    pub name: &'static str,
    pub component: Vec<u8>,
    /// The exit code of `salve`.
    pub code: i32,
    /// A part of the expected message.
    pub expected: &'static str,
    /// Whether it gets to suspend its target first.
    pub suspends: bool,
}

/// The guest's description of itself. The host calls it in a separate instance.
const DESCRIBE: &str = r#"
    (i32.store (i32.const 1024) (i32.const 2048)) (i32.store (i32.const 1028) (i32.const 5))
    (i32.store (i32.const 1032) (i32.const 2056)) (i32.store (i32.const 1036) (i32.const 5))
    (i32.store (i32.const 1040) (i32.const 2064)) (i32.store (i32.const 1044) (i32.const 8))
    (i32.store (i32.const 1048) (i32.const 2072)) (i32.store (i32.const 1052) (i32.const 2))"#;
const STRINGS: &str = r#"
    (data (i32.const 2048) "shape") (data (i32.const 2056) "0.1.0")
    (data (i32.const 2064) "nothing.") (data (i32.const 2072) "{}")"#;

const SUSPEND: &str = r#"
    (import "salve:cluster/suspend-flux@0.1.0" "suspend"
      (func $suspend (param i32 i32 i32 i32 i32 i32)))
    (import "salve:cluster/query-pvcs@0.1.0" "list-pvcs" (func $list_pvcs (param i32 i32 i32)))"#;

/// Suspends the target and lists PVCs. The answer is written to memory that the guest allocates.
const SUSPEND_AND_LIST: &str = "
    (call $suspend (i32.const 3072) (i32.const 1) (i32.const 3104) (i32.const 3) (i32.const 10)
      (i32.const 3200))
    (global.set $evil (i32.const 1))
    (call $list_pvcs (i32.const 3136) (i32.const 1) (i32.const 3200))";

/// Returns data with a `flux-ref` of a Kustomization in `media` at 3072, a reason at 3104, and a
/// list with one namespace at 3136.
fn target_data(name: &str) -> &'static str {
    let length = name.len();
    let text = format!(
        r#"{STRINGS} (global $evil (mut i32) (i32.const 0))
           (data (i32.const 3072) "\00\00\00\00\c0\0c\00\00\05\00\00\00")
           (data (i32.const 3084) "\d0\0c\00\00\{length:02x}\00\00\00")
           (data (i32.const 3104) "why") (data (i32.const 3136) "\c0\0c\00\00\05\00\00\00")
           (data (i32.const 3264) "media") (data (i32.const 3280) "{name}")"#
    );
    Box::leak(text.into_boxed_str())
}

/// Another version of the contract's package.
const LATER_PACKAGE: &str =
    "\npackage salve:cluster@0.9.0 { interface run { now: func() -> u64; } }\n";

/// Returns all malformed guests. Those that suspend an object suspend the Kustomization `target` in
/// `media`.
pub fn guests(target: &str) -> Vec<MalformedGuest> {
    let after_suspend = |realloc: &'static str| {
        Guest {
            imports: SUSPEND,
            items: target_data(target),
            describe: DESCRIBE,
            realloc,
            remediate: SUSPEND_AND_LIST,
            ..Guest::default()
        }
        .component()
    };
    let component = |guest: Guest| {
        Guest {
            items: if guest.items.is_empty() { STRINGS } else { guest.items },
            describe: DESCRIBE,
            ..guest
        }
        .component()
    };
    let parse = |text: &str| wat::parse_str(text).unwrap();
    let importing = |names: &[&str]| {
        parse(&format!(
            "(component {})",
            names
                .iter()
                .map(|name| format!(r#"(import "salve:cluster/{name}" (instance))"#))
                .collect::<String>()
        ))
    };
    let spins = r#"(data (i32.const 2048) "shape") (func $spin (loop $l (br $l))) (start $spin)"#;
    let table: &'static str = Box::leak(format!("{STRINGS} (table $t 1 funcref)").into_boxed_str());
    let grows = "
        (loop $l
          (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
        unreachable";
    let with_contract = |imports: &'static str, old: &str, new: &str| {
        let contract = salve_sandbox::contract::wit();
        assert!(contract.contains(old));
        Guest {
            imports,
            items: STRINGS,
            describe: DESCRIBE,
            diagnose: "(drop (call $now))",
            ..Guest::default()
        }
        .component_of(&(contract.replace(old, new) + LATER_PACKAGE))
    };
    let now = r#"(import "salve:cluster/run@0.1.0" "now" (func $now (result i32)))"#;
    let both = r#"
        (import "salve:cluster/run@0.1.0" "now" (func $now (result i64)))
        (import "salve:cluster/run@0.9.0" "now" (func (result i64)))"#;
    let later_now = r#"(import "salve:cluster/run@0.2.0" "now" (func $now (result i64)))"#;
    let fails = |name, component, expected, suspends| MalformedGuest {
        name,
        component,
        code: 6,
        expected,
        suspends,
    };
    let rejected = |name, component, expected| MalformedGuest {
        name,
        component,
        code: 2,
        expected,
        suspends: false,
    };
    vec![
        fails(
            "infinite loop in start",
            component(Guest { items: spins, ..Guest::default() }),
            "fuel",
            false,
        ),
        fails(
            "infinite loop in realloc",
            component(Guest { realloc: "(loop $l (br $l))", ..Guest::default() }),
            "fuel",
            false,
        ),
        fails(
            "infinite loop in realloc after a suspend",
            after_suspend("(if (global.get $evil) (then (loop $l (br $l))))"),
            "fuel",
            true,
        ),
        fails(
            "misaligned allocation",
            after_suspend("(if (global.get $evil) (then (return (i32.const 16385))))"),
            "align",
            true,
        ),
        fails(
            "allocation outside memory",
            after_suspend("(if (global.get $evil) (then (return (i32.const 0xfffffff0))))"),
            "realloc",
            true,
        ),
        fails(
            "unbounded table",
            component(Guest { items: table, remediate: grows, ..Guest::default() }),
            "a table of more than",
            false,
        ),
        rejected(
            "unknown interface",
            parse(
                r#"(component
                  (import "salve:cluster/secrets@0.1.0" (instance (export "read" (func)))))"#,
            ),
            "secrets",
        ),
        rejected(
            "interface with another type",
            with_contract(now, "now: func() -> u64", "now: func() -> u32"),
            "type",
        ),
        rejected("another version", with_contract(later_now, "@0.1.0", "@0.2.0"), "0.2.0"),
        rejected(
            "two versions",
            with_contract(
                both,
                "world remediation {",
                "world remediation {\n  import salve:cluster/run@0.9.0;",
            ),
            "0.9.0",
        ),
        rejected("duplicate interface", importing(&["run@0.1.0", "run@0.1.0"]), "run@0.1.0"),
        rejected("nested components", nested(100_000), "more than 64 deep"),
        rejected("core module", parse("(module)"), "module"),
    ]
}

/// Returns a guest that takes minutes to compile: long functions with many locals that are live in
/// all blocks. It is not one of [`guests`], because its test needs a limited compiler.
pub fn compiler_bomb() -> Vec<u8> {
    let locals = (0..2000).map(|n| format!("(local $l{n} i64)")).collect::<String>();
    let block = |n: usize| {
        format!(
            "(if (i64.eqz (local.get $l{})) (then (local.set $l{} (local.get $l{}))))",
            n % 2000,
            n * 7 % 2000,
            n * 13 % 2000
        )
    };
    let function = format!("(func {locals} {})", (0..4000).map(block).collect::<String>());
    let items = STRINGS.to_owned() + &function.repeat(48);
    Guest { items: Box::leak(items.into_boxed_str()), describe: DESCRIBE, ..Guest::default() }
        .component()
}

/// Returns nested components, each a section (4) of its parent. The text parser could not read as
/// many levels.
fn nested(depth: usize) -> Vec<u8> {
    const PREAMBLE: &[u8] = b"\0asm\x0d\0\x01\0";
    let (mut headers, mut length) = (vec![], PREAMBLE.len());
    for _ in 0..depth {
        headers.push([PREAMBLE, &[4], &leb(length)].concat());
        length += headers.last().map_or(0, Vec::len);
    }
    headers.into_iter().rev().chain([PREAMBLE.to_vec()]).collect::<Vec<_>>().concat()
}

/// Encodes a length as unsigned LEB128.
fn leb(mut n: usize) -> Vec<u8> {
    let mut bytes = vec![];
    loop {
        let low = (n & 0x7f) as u8;
        n >>= 7;
        bytes.push(if n == 0 { low } else { low | 0x80 });
        if n == 0 {
            return bytes;
        }
    }
}

#[tokio::test]
async fn malformed_guests_are_rejected_or_fail_and_their_suspensions_are_released() {
    for guest in guests("plex") {
        let MalformedGuest { name, component, expected, suspends, .. } = guest;
        match run(&component, &[], Mode::Live).await {
            Err(error) => {
                assert!(error.to_string().contains(expected) && !suspends, "{name}: {error}");
            }
            Ok(completed) => check_failed_run(name, &completed, expected, suspends),
        }
    }
}

fn check_failed_run(name: &str, completed: &CompletedRun, expected: &str, suspends: bool) {
    let result = &completed.finished.result;
    assert_eq!(result.verdict, Verdict::Failed(Fault::Guest), "{name}: {}", result.summary);
    assert!(result.summary.contains(expected), "{name}: {}", result.summary);
    assert!(is_restored(&completed.simulator), "{name}: {:#}", plex(&completed.simulator));
    assert_eq!(guest_writes(&completed.simulator).len(), if suspends { 2 } else { 0 }, "{name}");
}
