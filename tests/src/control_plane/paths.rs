//! The files of a control plane that `cargo xtask control-plane` built.

use std::path::{Path, PathBuf};

/// The command that enables the tests on a real control plane.
const ENABLE: &str = "cargo xtask control-plane";

/// The paths of a built control plane.
#[derive(Clone, Debug)]
pub struct Paths {
    built: PathBuf,
    sources: PathBuf,
}

impl Paths {
    /// Returns the paths of the control plane, if the build script of this package found one.
    ///
    /// It is always in `target/control-plane` of the repository, wherever `CARGO_TARGET_DIR`
    /// points: the task runner, the build script, and the tests rely on the same path.
    ///
    /// # Errors
    /// A message with the command that builds it.
    pub fn find() -> Result<Paths, String> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let built = package.parent().unwrap_or(package).join("target/control-plane");
        if !cfg!(control_plane) {
            return Err(format!("the control plane is not built; run `{ENABLE}`"));
        }
        Ok(Paths { built, sources: package.join("control-plane") })
    }

    /// Returns the path of a program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.built.join("bin").join(name)
    }

    /// Returns the directory of the CRDs that were generated from the types of the real APIs.
    pub fn generated_crds(&self) -> PathBuf {
        self.built.join("crds")
    }

    /// Returns the directory of the handwritten CRDs.
    pub fn handwritten_crds(&self) -> PathBuf {
        self.sources.join("crds")
    }

    /// Returns the path of a configuration file in `tests/control-plane`.
    pub fn configuration(&self, name: &str) -> PathBuf {
        self.sources.join(name)
    }
}
