//! Fuzz targets for untrusted input: documents, run files, logs, and components. Each function
//! takes arbitrary bytes and panics if a promise about them is broken.
//!
//! `cargo test` runs them on the corpus; `cargo xtask fuzz` searches for more inputs with
//! libFuzzer. Add what it finds to the corpus.

mod component;
mod documents;
mod logs;
mod run_file;

pub use component::component;
pub use documents::documents;
pub use logs::logs;
pub use run_file::run_file;

use salve_core::sanitize::sanitized;

/// Panics if a text is blank or contains control sequences that a terminal would interpret.
fn assert_printable(text: &str) {
    assert!(!text.trim().is_empty(), "blank message");
    for line in text.lines() {
        assert_eq!(sanitized(line), line, "control sequences would reach a terminal");
    }
}
