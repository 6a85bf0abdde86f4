//! Where the programs of the control plane are. What builds them is the task runner.

use std::path::{Path, PathBuf};

/// What enables the stories where the control plane is not built.
const ENABLE: &str = "cargo xtask control-plane";

/// The places of a control plane that has been built.
#[derive(Clone, Debug)]
pub struct Paths {
    built: PathBuf,
    sources: PathBuf,
}

/// The built control plane, or the sentence that says how to build it. Which of the two was decided by the build script.
///
/// It always stands in `target/control-plane` of the repository, wherever `CARGO_TARGET_DIR` points: the task runner,
/// the build script that switches the stories on, and the stories agree on it without asking each other.
pub fn built() -> Result<Paths, String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = package.parent().unwrap_or(package).join("target/control-plane");
    if !cfg!(control_plane) {
        return Err(format!("the control plane is not built; this builds it: {ENABLE}"));
    }
    Ok(Paths { built, sources: package.join("control-plane") })
}

impl Paths {
    /// The program of this name.
    pub fn program(&self, name: &str) -> PathBuf {
        self.built.join("bin").join(name)
    }

    /// The definitions generated from the types of the real APIs.
    pub fn generated_crds(&self) -> PathBuf {
        self.built.join("crds")
    }

    /// The definitions written by hand.
    pub fn written_crds(&self) -> PathBuf {
        self.sources.join("crds")
    }

    /// A file of the configuration that stands beside the Go modules.
    pub fn configuration(&self, name: &str) -> PathBuf {
        self.sources.join(name)
    }
}
