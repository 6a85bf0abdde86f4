//! Tests on a real control plane. They share one binary, so that two control planes run at a time.

mod incident;
mod overrides;
mod smoke;
