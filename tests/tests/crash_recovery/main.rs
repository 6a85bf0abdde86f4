//! Runs survive crashes before each append, sync, and request, API server faults and outages,
//! interrupts, clocks that jump, and interference by other users.

mod crashes;
mod fault;
mod faults;
mod fixture;
mod interceptor;
mod interference;
mod oracle;
mod outages;
