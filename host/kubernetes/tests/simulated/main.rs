//! The performer against the simulated cluster: what it reads, what it writes, and what becomes of writes that fail in every way.

mod stage;

mod delete;
mod lease;
mod looks;
mod restart;
mod suspend;
