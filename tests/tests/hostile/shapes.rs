//! Guests whose shape is the attack: what no language would make of any program, written in the text of WebAssembly.

use super::{GuestExited, is_as_before, of_the_guest, plex, run};
use crate::guests::Guest;
use salve_core::outcome::Fault;
use salve_core::report::Verdict;
use salve_run::Mode;

/// One of them, and what comes of it.
pub struct Shape {
    pub name: &'static str,
    pub component: Vec<u8>,
    /// What the program exits with.
    pub code: i32,
    /// What its end is called.
    pub words: &'static str,
    /// Whether it comes so far that it suspends its victim first.
    pub suspends: bool,
}

/// Who it says that it is. Asked in an instance of its own.
const DESCRIBE: &str = r#"
    (i32.store (i32.const 1024) (i32.const 2048)) (i32.store (i32.const 1028) (i32.const 5))
    (i32.store (i32.const 1032) (i32.const 2056)) (i32.store (i32.const 1036) (i32.const 5))
    (i32.store (i32.const 1040) (i32.const 2064)) (i32.store (i32.const 1044) (i32.const 8))
    (i32.store (i32.const 1048) (i32.const 2072)) (i32.store (i32.const 1052) (i32.const 2))"#;
const WORDS: &str = r#"(data (i32.const 2048) "shape") (data (i32.const 2056) "0.1.0") (data (i32.const 2064) "nothing.") (data (i32.const 2072) "{}")"#;

const SUSPEND: &str = r#"
    (import "salve:cluster/suspend-flux@0.1.0" "suspend" (func $suspend (param i32 i32 i32 i32 i32 i32)))
    (import "salve:cluster/query-pvcs@0.1.0" "claims" (func $claims (param i32 i32 i32)))"#;

/// Suspends the victim, and asks for claims, whose answer needs room of the guest's.
const SUSPEND_AND_ASK: &str = "
    (call $suspend (i32.const 3072) (i32.const 1) (i32.const 3104) (i32.const 3) (i32.const 10) (i32.const 3200))
    (global.set $evil (i32.const 1))
    (call $claims (i32.const 3136) (i32.const 1) (i32.const 3200))";

/// A `flux-ref` at 3072 for a Kustomization of `media`, a reason at 3104, and a list of one namespace at 3136.
fn victim(name: &str) -> &'static str {
    let length = name.len();
    let text = format!(
        r#"{WORDS} (global $evil (mut i32) (i32.const 0))
           (data (i32.const 3072) "\00\00\00\00\c0\0c\00\00\05\00\00\00\d0\0c\00\00\{length:02x}\00\00\00")
           (data (i32.const 3104) "why") (data (i32.const 3136) "\c0\0c\00\00\05\00\00\00")
           (data (i32.const 3264) "media") (data (i32.const 3280) "{name}")"#
    );
    Box::leak(text.into_boxed_str())
}

/// Another version of a package, beside the contract.
const LATER: &str = "\npackage salve:cluster@0.9.0 { interface run { now: func() -> u64; } }\n";

/// All of them, with this Kustomization in `media` for a victim.
pub fn shapes(victim_name: &str) -> Vec<Shape> {
    let later = |realloc: &'static str| {
        Guest {
            imports: SUSPEND,
            items: victim(victim_name),
            describe: DESCRIBE,
            realloc,
            remediate: SUSPEND_AND_ASK,
            ..Guest::default()
        }
        .component()
    };
    let of = |guest: Guest| {
        Guest {
            items: if guest.items.is_empty() { WORDS } else { guest.items },
            describe: DESCRIBE,
            ..guest
        }
        .component()
    };
    let raw = |text: &str| wat::parse_str(text).unwrap();
    let imports = |names: &[&str]| {
        raw(&format!(
            "(component {})",
            names
                .iter()
                .map(|name| format!(r#"(import "salve:cluster/{name}" (instance))"#))
                .collect::<String>()
        ))
    };
    let spins = r#"(data (i32.const 2048) "shape") (func $spin (loop $l (br $l))) (start $spin)"#;
    let table = r#"(data (i32.const 2048) "shape") (data (i32.const 2056) "0.1.0") (data (i32.const 2064) "nothing.") (data (i32.const 2072) "{}") (table $t 1 funcref)"#;
    let grows = "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable";
    let with = |now: &'static str, was: &str, is: &str| {
        let contract = salve_sandbox::contract::wit();
        assert!(contract.contains(was));
        Guest {
            imports: now,
            items: WORDS,
            describe: DESCRIBE,
            diagnose: "(drop (call $now))",
            ..Guest::default()
        }
        .component_of(&(contract.replace(was, is) + LATER))
    };
    let now = r#"(import "salve:cluster/run@0.1.0" "now" (func $now (result i32)))"#;
    let both = r#"(import "salve:cluster/run@0.1.0" "now" (func $now (result i64))) (import "salve:cluster/run@0.9.0" "now" (func (result i64)))"#;
    let later_now = r#"(import "salve:cluster/run@0.2.0" "now" (func $now (result i64)))"#;
    let broken =
        |name, component, words, suspends| Shape { name, component, code: 6, words, suspends };
    let refused =
        |name, component, words| Shape { name, component, code: 2, words, suspends: false };
    vec![
        broken("spin in start", of(Guest { items: spins, ..Guest::default() }), "fuel", false),
        broken(
            "spin in realloc",
            of(Guest { realloc: "(loop $l (br $l))", ..Guest::default() }),
            "fuel",
            false,
        ),
        broken(
            "spin in realloc, having suspended",
            later("(if (global.get $evil) (then (loop $l (br $l))))"),
            "fuel",
            true,
        ),
        broken(
            "room that is misaligned",
            later("(if (global.get $evil) (then (return (i32.const 16385))))"),
            "align",
            true,
        ),
        broken(
            "room beyond its memory",
            later("(if (global.get $evil) (then (return (i32.const 0xfffffff0))))"),
            "realloc",
            true,
        ),
        broken(
            "a table without end",
            of(Guest { items: table, remediate: grows, ..Guest::default() }),
            "a table of more than",
            false,
        ),
        refused(
            "an interface that nobody has",
            raw(
                r#"(component (import "salve:cluster/secrets@0.1.0" (instance (export "read" (func)))))"#,
            ),
            "secrets",
        ),
        refused(
            "an interface of another type",
            with(now, "now: func() -> u64", "now: func() -> u32"),
            "type",
        ),
        refused("another version", with(later_now, "@0.1.0", "@0.2.0"), "0.2.0"),
        refused(
            "two versions at once",
            with(
                both,
                "world remediation {",
                "world remediation {\n  import salve:cluster/run@0.9.0;",
            ),
            "0.9.0",
        ),
        refused("an interface twice", imports(&["run@0.1.0", "run@0.1.0"]), "run@0.1.0"),
        refused("components in components", nested(100_000), "more than 64 deep"),
        refused("a core module", raw("(module)"), "module"),
    ]
}

/// A guest that any compiler chews on: long functions, with many locals that meet in each of their blocks. Compiling it takes minutes, so it is
/// no part of [`shapes`]: whoever tells it gives the compiler less.
pub fn bomb() -> Vec<u8> {
    let locals = (0..2000).map(|n| format!("(local $l{n} i64)")).collect::<String>();
    let meet = |n: usize| {
        format!(
            "(if (i64.eqz (local.get $l{})) (then (local.set $l{} (local.get $l{}))))",
            n % 2000,
            n * 7 % 2000,
            n * 13 % 2000
        )
    };
    let function = format!("(func {locals} {})", (0..4000).map(meet).collect::<String>());
    let items = WORDS.to_owned() + &function.repeat(48);
    Guest { items: Box::leak(items.into_boxed_str()), describe: DESCRIBE, ..Guest::default() }
        .component()
}

/// Components in components, deeper than their text could be read: each is a section (4) of the one around it.
fn nested(deep: usize) -> Vec<u8> {
    const PREAMBLE: &[u8] = b"\0asm\x0d\0\x01\0";
    let (mut heads, mut length) = (vec![], PREAMBLE.len());
    for _ in 0..deep {
        heads.push([PREAMBLE, &[4], &leb(length)].concat());
        length += heads.last().map_or(0, Vec::len);
    }
    heads.into_iter().rev().chain([PREAMBLE.to_vec()]).collect::<Vec<_>>().concat()
}

/// A length as WebAssembly writes it.
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
async fn each_is_refused_or_ended_and_what_it_suspended_is_given_back() {
    for shape in shapes("plex") {
        let Shape { name, component, words, suspends, .. } = shape;
        match run(&component, &[], Mode::Live).await {
            Err(failed) => {
                assert!(failed.to_string().contains(words) && !suspends, "{name}: {failed}");
            }
            Ok(ended) => is_over(name, &ended, words, suspends),
        }
    }
}

fn is_over(name: &str, ended: &GuestExited, words: &str, suspends: bool) {
    let closing = &ended.over.closing;
    assert_eq!(closing.verdict, Verdict::Failed(Fault::Guest), "{name}: {}", closing.summary);
    assert!(closing.summary.contains(words), "{name}: {}", closing.summary);
    assert!(is_as_before(&ended.simulator), "{name}: {:#}", plex(&ended.simulator));
    assert_eq!(of_the_guest(&ended.simulator).len(), if suspends { 2 } else { 0 }, "{name}");
}
