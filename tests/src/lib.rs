//! The test harness: code shared by the integration tests in `tests/tests`.

pub mod browser;
pub mod canary;
pub mod control_plane;
pub mod salve;

mod freshness;
