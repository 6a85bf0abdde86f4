//! The sandbox from outside: small guests written as core wasm, against a cluster that is a table.

mod ceilings;
mod cluster;
mod door;
mod guests;
mod shapes;
