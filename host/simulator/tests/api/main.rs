//! Tests of the simulated cluster through its public API: requests, virtual time, and controllers.

mod actors;
mod api;
mod caller;
mod faults;
mod scenarios;
mod served;
