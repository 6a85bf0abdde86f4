//! Files that are not a remediation for this host, each with its own error.

use crate::guests::{Guest, encode};
use salve_core::capability::{Access, Capability};
use salve_sandbox::{ImportKind, LoadError, Sandbox, UpperBound, contract, inspect};

fn load(bytes: &[u8]) -> Result<(), LoadError> {
    Sandbox::new(None).unwrap().load(bytes).map(drop)
}

#[test]
fn a_file_that_is_not_webassembly_is_rejected() {
    let error = load(b"#!/bin/sh\nrm -rf /").unwrap_err();
    assert!(matches!(error, LoadError::NotWasm { .. }), "{error}");
    assert!(error.to_string().contains("starts with \"#!/bin/sh"), "{error}");
    assert!(matches!(load(b"").unwrap_err(), LoadError::NotWasm { .. }));
}

#[test]
fn a_core_module_is_not_a_component() {
    let module = wat::parse_str("(module)").unwrap();
    assert_eq!(load(&module).unwrap_err(), LoadError::CoreModule);
}

#[test]
fn a_truncated_component_is_damaged() {
    let whole = Guest::default().component();
    let error = load(&whole[..whole.len() - 7]).unwrap_err();
    assert!(matches!(error, LoadError::Damaged(_)), "{error}");
}

#[test]
fn a_component_over_the_size_limit_is_not_parsed() {
    let error = inspect(&vec![0; salve_sandbox::SIZE_CEILING + 1]).unwrap_err();
    assert_eq!(error, LoadError::TooLarge { size: salve_sandbox::SIZE_CEILING + 1 });
    assert!(matches!(
        inspect(&vec![0; salve_sandbox::SIZE_CEILING]).unwrap_err(),
        LoadError::NotWasm { .. }
    ));
}

/// Returns a component with `depth` levels of nested components.
fn nested(depth: usize) -> Vec<u8> {
    wat::parse_str("(component ".repeat(depth + 1) + &")".repeat(depth + 1)).unwrap()
}

#[test]
fn a_component_nested_too_deep_is_rejected() {
    assert!(inspect(&nested(salve_sandbox::DEPTH_CEILING)).is_ok());
    assert_eq!(inspect(&nested(salve_sandbox::DEPTH_CEILING + 1)).unwrap_err(), LoadError::TooDeep);
}

#[test]
fn the_error_for_wasi_lists_all_imports_and_the_remedy() {
    let component = wat::parse_str(
        r#"(component
            (import "wasi:cli/environment@0.2.0" (instance (export "get-environment" (func))))
            (import "wasi:clocks/wall-clock@0.2.0" (instance (export "now" (func))))
            (import "salve:cluster/run@0.1.0" (instance (export "now" (func (result u64))))))"#,
    )
    .unwrap();
    let error = load(&component).unwrap_err();
    assert_eq!(
        error,
        LoadError::Wasi(vec![
            "wasi:cli/environment@0.2.0".into(),
            "wasi:clocks/wall-clock@0.2.0".into()
        ])
    );
    let text = error.to_string();
    assert!(text.contains("wasm32-wasip2") && text.contains("wasm-component-ld"), "{text}");
    assert_eq!(
        inspect(&component).unwrap().capabilities(Access::Builtin),
        [Capability::Run],
        "it can still be inspected"
    );
}

#[test]
fn only_a_compatible_version_of_the_contract_is_accepted() {
    let guest = Guest {
        imports: r#"(import "salve:cluster/run@0.2.0" "now" (func $now (result i64)))"#,
        diagnose: "(drop (call $now))",
        ..Guest::default()
    };
    let error =
        load(&guest.component_of(&contract::wit().replace("@0.1.0", "@0.2.0"))).unwrap_err();
    assert_eq!(error, LoadError::OtherVersion { imports: vec!["salve:cluster/run@0.2.0".into()] });

    let guest = Guest {
        imports: r#"(import "salve:cluster/run@0.1.7" "now" (func $now (result i64)))"#,
        diagnose: "(drop (call $now))",
        ..Guest::default()
    };
    assert_eq!(load(&guest.component_of(&contract::wit().replace("@0.1.0", "@0.1.7"))), Ok(()));
}

#[test]
fn unknown_imports_are_rejected() {
    let component = wat::parse_str(
        r#"(component
            (import "salve:cluster/exec@0.1.0"
                (instance (export "exec" (func (param "command" string)))))
            (import "acme:tools/shell" (instance (export "sh" (func))))
            (import "hook" (func)))"#,
    )
    .unwrap();
    let error = load(&component).unwrap_err();
    assert_eq!(
        error,
        LoadError::Unknown(vec![
            "salve:cluster/exec@0.1.0".into(),
            "acme:tools/shell".into(),
            "hook".into()
        ])
    );
}

#[test]
fn the_error_for_another_world_lists_the_missing_exports() {
    let component = encode(
        "package acme:jobs;
        world remediation { export run: func(); export describe: func() -> string; }",
        r#"(module (memory (export "memory") 1) (func (export "run"))
                (func (export "describe") (result i32) (i32.const 0)))"#,
    );
    let error = load(&component).unwrap_err();
    let LoadError::OtherWorld { missing, exports } = &error else { panic!("{error}") };
    assert_eq!(missing, &["diagnose", "remediate"]);
    assert!(exports.contains(&"run".to_owned()), "{exports:?}");
}

#[test]
fn matching_names_with_other_types_are_rejected() {
    let contract = contract::wit()
        .replace("export describe: func() -> description;", "export describe: func() -> string;");
    let error = load(&Guest::default().component_of(&contract)).unwrap_err();
    assert!(matches!(&error, LoadError::OtherTypes(text) if text.contains("describe")), "{error}");

    let contract = contract::wit().replace("now: func() -> u64;", "now: func() -> s64;");
    let guest = Guest {
        imports: r#"(import "salve:cluster/run@0.1.0" "now" (func $now (result i64)))"#,
        diagnose: "(drop (call $now))",
        ..Guest::default()
    };
    let error = load(&guest.component_of(&contract)).unwrap_err();
    assert!(matches!(&error, LoadError::OtherTypes(_)), "{error}");
}

#[test]
fn an_inspection_lists_functions_and_shared_interfaces_grant_nothing() {
    let guest = Guest {
        imports: r#"(import "salve:cluster/query-pvcs@0.1.0" "list-pvcs"
                (func $list-pvcs (param i32 i32 i32)))
                    (import "salve:cluster/suspend-flux@0.1.0" "suspend"
                        (func $suspend (param i32 i32 i32 i32 i32 i32)))
                    (import "salve:cluster/reversals@0.1.0" "[method]reversal.release"
                        (func $release (param i32 i32)))"#,
        diagnose: "(call $list-pvcs (i32.const 0) (i32.const 0) (i32.const 512))",
        remediate: "(call $release (i32.const 1) (i32.const 512))",
        ..Guest::default()
    };
    let bytes = guest.component();
    let inspection = inspect(&bytes).unwrap();
    assert_eq!(
        (inspection.size, &inspection.digest),
        (bytes.len(), &salve_core::digest::of_bytes(&bytes))
    );
    assert_eq!(inspection.capabilities(Access::Read), [Capability::QueryPvcs]);
    assert_eq!(inspection.capabilities(Access::Write), [Capability::SuspendFlux]);
    assert_eq!(inspection.capabilities(Access::Builtin), []);
    let import = |name: &str| inspection.imports.iter().find(|i| i.name == name).unwrap();
    assert_eq!(import("salve:cluster/suspend-flux@0.1.0").functions, ["suspend"]);
    assert_eq!(import("salve:cluster/reversals@0.1.0").functions, ["reversal.release"]);
    assert_eq!(import("salve:cluster/reversals@0.1.0").kind, ImportKind::Shared);
    assert_eq!(inspection.unknown_functions(), [""; 0]);
    assert_eq!(import("salve:cluster/query-pvcs@0.1.0").functions, ["list-pvcs"]);
    assert_eq!(import("salve:cluster/types@0.1.0").kind, ImportKind::Shared);
    assert!(
        inspection.imports.iter().all(|i| i.name.starts_with("salve:cluster/")),
        "types that the world uses are not listed"
    );
    assert_eq!(inspection.exports, ["describe", "diagnose", "remediate"]);
}

/// Returns a component that imports the functions that `wanted` selects, without their real types.
fn importing(wanted: impl Fn(&str, &str) -> bool) -> Vec<u8> {
    let known = contract::functions();
    let interface = |capability: Capability| {
        let capability = capability.name();
        let functions = known[capability]
            .iter()
            .filter(|function| wanted(capability, function))
            .map(|function| match function.split_once('.') {
                Some((resource, method)) => format!(
                    r#"(export "{resource}" (type ${resource} (sub resource)))
                    (export "[method]{resource}.{method}"
                        (func (param "self" (borrow ${resource}))))"#
                ),
                None => format!(r#"(export "{function}" (func))"#),
            });
        format!(
            r#"(import "{}/{capability}@{}" (instance {}))"#,
            contract::PACKAGE,
            contract::VERSION,
            functions.collect::<String>()
        )
    };
    wat::parse_str(format!(
        "(component {})",
        Capability::interfaces().map(interface).collect::<String>()
    ))
    .unwrap()
}

#[test]
fn imports_that_are_only_an_upper_bound_are_marked() {
    let made_by = |tool: &str, version: &str| {
        wat::parse_str(format!(
            r#"(component (core module
                (@producers (language "Rust" "") (processed-by "{tool}" "{version}"))))"#
        ))
        .unwrap()
    };
    // As in components built by componentize-js 0.23.0 and componentize-py 0.25.1.
    for (tool, version) in [("ComponentizeJS", "0.23.0"), ("component-init-transform", "0.2.0")] {
        let component = made_by(tool, version);
        assert_eq!(
            inspect(&component).unwrap().upper_bound(),
            Some(UpperBound::Interpreter(&format!("{tool} {version}")))
        );
    }
    assert_eq!(inspect(&made_by("wit-component", "0.245.1")).unwrap().upper_bound(), None);
    assert_eq!(
        inspect(&importing(|_, _| true)).unwrap().upper_bound(),
        Some(UpperBound::Everything)
    );
    assert_eq!(
        inspect(&importing(|_, function| function != "sleep")).unwrap().upper_bound(),
        None,
        "one function is missing"
    );
}
