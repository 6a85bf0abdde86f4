//! What `bindgen!` makes of the world `remediation`. Nothing is written by hand here.
#![allow(missing_docs, reason = "generated: the documentation stands in wit/")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "remediation",
    imports: { default: async | trappable },
    exports: { default: async },
    with: {
        "salve:cluster/tail-logs.cursor": crate::capabilities::Cursor,
        "salve:cluster/suspend-flux.suspension": crate::capabilities::Suspension,
    },
});
