//! Tests of the sandbox's public API: small guests in WebAssembly text against a fake cluster.

mod calls;
mod ceilings;
mod cluster;
mod guests;
mod shapes;
