//! The part of the task runner that tests check as well.

pub mod planted;
