//! Builds guests from a few lines of WebAssembly text, without a toolchain.
//!
//! An empty body returns zeroed memory: an empty description, `ok` with an `incident` without text,
//! or `ok` with `fixed` without text.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The parts of a core module.
#[derive(Default)]
pub struct Guest {
    pub imports: &'static str,
    /// Data, globals, and functions.
    pub items: &'static str,
    /// Instructions at the start of `cabi_realloc`.
    pub realloc: &'static str,
    /// The body of the export.
    pub describe: &'static str,
    /// The body of the export.
    pub diagnose: &'static str,
    /// The body of the export.
    pub remediate: &'static str,
}

/// The address of the result of every export.
pub const RESULT: u32 = 1024;

impl Guest {
    /// Encodes the guest against this host's contract.
    pub fn component(&self) -> Vec<u8> {
        self.component_of(&salve_sandbox::contract::wit())
    }

    /// Encodes the guest against another contract with a world `remediation`.
    pub fn component_of(&self, contract: &str) -> Vec<u8> {
        let Self { imports, items, realloc, describe, diagnose, remediate } = self;
        encode(
            contract,
            &format!(
                r#"(module
                    {imports}
                    (memory (export "memory") 1)
                    (global $free (mut i32) (i32.const 16384))
                    {items}
                    (func (export "cabi_realloc") (param $old i32) (param $was i32)
                        (param $align i32) (param $size i32) (result i32)
                        {realloc}
                        (global.set $free (i32.and
                            (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
                            (i32.sub (i32.const 0) (local.get $align))))
                        (global.get $free)
                        (global.set $free (i32.add (global.get $free) (local.get $size))))
                    (func (export "describe") (result i32) {describe} (i32.const {RESULT}))
                    (func (export "diagnose") (param $config i32) (param $length i32)
                        (result i32) {diagnose} (i32.const {RESULT}))
                    (func (export "remediate") (param $config i32) (param $length i32)
                        (result i32) {remediate} (i32.const {RESULT})))"#
            ),
        )
    }
}

/// Encodes a core module with the metadata of a world as a component.
pub fn encode(contract: &str, module: &str) -> Vec<u8> {
    let mut core = wat::parse_str(module).unwrap();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("contract.wit", contract).unwrap();
    let world = resolve.select_world(&[package], Some("remediation")).unwrap();
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&core).unwrap().encode().unwrap()
}
