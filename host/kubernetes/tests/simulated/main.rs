//! The backend against the simulated cluster: what it reads and writes, and how it resolves writes
//! that fail in every way.

mod fixture;

mod absence;
mod delete;
mod drain;
mod lease;
mod override_fields;
mod reads;
mod restart;
mod suspend;
