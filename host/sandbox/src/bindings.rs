//! The bindings that `bindgen!` generates from the world `remediation`.
#![allow(missing_docs, reason = "generated: the documentation is in wit/")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "remediation",
    imports: { default: async | trappable },
    exports: { default: async },
    with: {
        "salve:cluster/tail-logs.cursor": crate::capability::tail_logs::Cursor,
    },
});
