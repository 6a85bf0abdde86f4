//! What the stories told from outside share. The stories themselves stand in `tests/tests`.

pub mod browser;
pub mod canary;
pub mod control_plane;
pub mod salve;
