//! A run survives: crashes before and after each line and each request, faults of the API server, and people who meddle.

mod adversaries;
mod crashes;
mod fault;
mod faults;
mod fixture;
mod interceptor;
mod oracle;
