//! The sandbox from outside: small guests written as core wasm, against a cluster that is a table.

mod calls;
mod ceilings;
mod cluster;
mod guests;
mod shapes;
