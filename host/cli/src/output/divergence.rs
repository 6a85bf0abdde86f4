//! Prints where a replay diverges from its run.

use super::{ERROR, HEADING};
use crate::session::Divergence;
use salve_core::sanitize::sanitized;

/// Prints what the run did and what the replay does instead.
pub fn divergence(divergence: &Divergence) {
    let position =
        divergence.entry.map_or_else(|| "at the end".to_owned(), |n| format!("at entry {n}"));
    anstream::println!("{ERROR}DIVERGED{ERROR:#}  {position}; everything before it is identical\n");
    anstream::println!("{HEADING}expected{HEADING:#}  {}", sanitized(&divergence.expected));
    anstream::println!("{HEADING}got{HEADING:#}       {}", sanitized(&divergence.got));
}
