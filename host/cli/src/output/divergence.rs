//! Where a guest goes another way than its run did.

use super::{ERROR, HEADING};
use crate::session::Divergence;
use salve_core::sanitize::sanitized;

/// Prints both ways, one below the other.
pub fn divergence(divergence: &Divergence) {
    let place =
        divergence.entry.map_or_else(|| "at the end".to_owned(), |n| format!("at entry {n}"));
    anstream::println!("{ERROR}IT PARTS{ERROR:#}  {place}; everything before it is the same\n");
    anstream::println!("{HEADING}expected{HEADING:#}  {}", sanitized(&divergence.expected));
    anstream::println!("{HEADING}got{HEADING:#}       {}", sanitized(&divergence.got));
}
