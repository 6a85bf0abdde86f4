//! The cluster as its callers see it: requests over the HTTP seam, virtual time, and what the parties do meanwhile.

mod actors;
mod api;
mod caller;
mod faults;
mod served;
