//! What comes from outside and is read by us: documents, run files, logs, components. Each function here takes any bytes
//! and panics when a promise about them does not hold.
//!
//! `cargo test` tells the corpus to them, `cargo xtask fuzz` lets libFuzzer look for more. What it finds belongs into the corpus.

mod component;
mod documents;
mod logs;
mod run_file;

pub use component::component;
pub use documents::documents;
pub use logs::logs;
pub use run_file::run_file;

use salve_core::sanitize::sanitized;

/// Panics unless a person can be shown these lines: something is said, and nothing in it moves a terminal.
fn can_be_shown(text: &str) {
    assert!(!text.trim().is_empty(), "an error that says nothing");
    for line in text.lines() {
        assert_eq!(sanitized(line), line, "this would reach a terminal");
    }
}
