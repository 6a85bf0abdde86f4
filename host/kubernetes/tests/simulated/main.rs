//! The performer against the simulated cluster: what it reads, what it writes, and what becomes of writes that fail in every way.

mod fixture;

mod delete;
mod lease;
mod reads;
mod restart;
mod suspend;
