//! Runs survive crashes before each append, sync, and request, API server faults, and interference
//! by other users.

mod crashes;
mod fault;
mod faults;
mod fixture;
mod interceptor;
mod interference;
mod oracle;
