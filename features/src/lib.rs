//! Makes every build use the same features of shared dependencies.
//!
//! Cargo builds a dependency with the features that the *selected* packages need. Without this
//! package, `cargo test -p PACKAGE` would build wasmtime again with other features than `cargo
//! test`. All packages of the host and the tests depend on it, and it selects the features that
//! otherwise differ.
//!
//! A test fails if the features of two selections differ, and names the features to add here.
