//! Where a guest goes another way than its run did.

use super::{BAD, HEAD};
use crate::session::Parting;
use salve_core::text::inert;

/// Prints both ways, one below the other.
pub fn parting(parting: &Parting) {
    let place = parting.entry.map_or_else(|| "at the end".to_owned(), |n| format!("at entry {n}"));
    anstream::println!("{BAD}IT PARTS{BAD:#}  {place}; everything before it is the same\n");
    anstream::println!("{HEAD}expected{HEAD:#}  {}", inert(&parting.expected));
    anstream::println!("{HEAD}got{HEAD:#}       {}", inert(&parting.got));
}
