//! Detects a `salve` binary that is older than its sources.
//!
//! Cargo rebuilds the binary for `cargo build` and for `cargo test` of the whole workspace, but not
//! for `cargo test -p salve-tests`. The sources are taken from the dep-info that rustc leaves for
//! each crate and from the inputs that the build script of `salve` declares, because cargo decides
//! by the same lists. Cargo's own summary, `target/<profile>/salve.d`, is no substitute: `cargo
//! test` does not write it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

/// The folder with the crates that are linked into the binary.
const CRATES: &str = "host/";

/// The root module of the binary itself.
const MAIN: &str = "host/cli/src/main.rs";

/// Returns an error that names a source file of the binary that changed after it was built.
///
/// `profile` is the folder of the build profile (`target/debug`), `root` the workspace root.
pub fn ensure_current(binary: &Path, profile: &Path, root: &Path) -> Result<()> {
    let built = modified(binary)?;
    let crates = crate_sources(&profile.join("deps"))?;
    ensure!(
        !crates.is_empty(),
        "cannot tell whether {} is current: no dep-info of a crate in {}",
        binary.display(),
        profile.join("deps").display()
    );
    // A dep-info file outlives a crate that was removed or renamed.
    let crates = crates.into_iter().filter(|sources| root.join(&sources[0]).exists());
    let inputs = build_script_inputs(&profile.join("build"))?;
    for path in crates.flatten().map(|source| root.join(source)).chain(inputs) {
        let newer = newer_than(&path, built)?;
        if let Some(file) = newer {
            let how = if file.exists() { "is newer than" } else { "was removed after building" };
            anyhow::bail!(
                "{} is stale: {} {how} it; run `cargo build` to rebuild it",
                binary.display(),
                file.display()
            );
        }
    }
    Ok(())
}

/// Returns the sources of each crate below [`CRATES`], relative to the workspace root. The root
/// module of the crate comes first.
fn crate_sources(deps: &Path) -> Result<Vec<Vec<PathBuf>>> {
    // Several builds of a crate (features, profiles of dependencies) leave one file each.
    let mut newest: BTreeMap<PathBuf, (SystemTime, Vec<PathBuf>)> = BTreeMap::new();
    for file in entries(deps)? {
        if file.extension().is_none_or(|extension| extension != "d") {
            continue;
        }
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let Some(sources) = linked_sources(&text) else { continue };
        let Some(root) = sources.first().filter(|root| root.starts_with(CRATES)) else { continue };
        let written = modified(&file)?;
        if newest.get(root).is_none_or(|(earlier, _)| *earlier < written) {
            newest.insert(root.clone(), (written, sources));
        }
    }
    Ok(newest.into_values().map(|(_, sources)| sources).collect())
}

/// Returns the sources of a library or of the binary from the text of a dep-info file, which is a
/// makefile. Unit tests, whose target is not a library, include modules that the binary does not.
fn linked_sources(dep_info: &str) -> Option<Vec<PathBuf>> {
    let sources = dep_info.lines().find_map(|line| {
        let (target, sources) = line.split_once(": ")?;
        (target.ends_with(".rlib") || sources.starts_with(MAIN)).then_some(sources)
    })?;
    // A space that belongs to a path is escaped.
    let escaped = sources.replace("\\ ", "\0");
    Some(escaped.split_whitespace().map(|path| path.replace('\0', " ").into()).collect())
}

/// Returns the files and folders that the latest run of the build script of `salve` depends on.
fn build_script_inputs(build: &Path) -> Result<Vec<PathBuf>> {
    let mut latest: Option<(SystemTime, PathBuf)> = None;
    for folder in entries(build)? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // `salve-<hash>`, and not `salve-tests-<hash>`.
        let hash = name.strip_prefix("salve-").unwrap_or("-");
        let output = folder.join("output");
        if !hash.contains('-') && output.is_file() {
            let run = (modified(&output)?, output);
            latest = latest.max(Some(run));
        }
    }
    let Some((_, output)) = latest else { return Ok(vec![]) };
    let text = fs::read_to_string(&output).with_context(|| output.display().to_string())?;
    let inputs = text.lines().filter_map(|line| line.strip_prefix("cargo::rerun-if-changed="));
    Ok(inputs.map(PathBuf::from).collect())
}

/// Returns `path`, or what is below it, if it changed after `built` or does not exist.
fn newer_than(path: &Path, built: SystemTime) -> Result<Option<PathBuf>> {
    if !path.exists() {
        return Ok(Some(path.to_owned()));
    }
    if path.is_dir() {
        for entry in entries(path)? {
            let newer = newer_than(&entry, built)?;
            if newer.is_some() {
                return Ok(newer);
            }
        }
    }
    Ok((modified(path)? > built).then(|| path.to_owned()))
}

fn modified(path: &Path) -> Result<SystemTime> {
    let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
    Ok(metadata.modified()?)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BUILT: Duration = Duration::from_secs(1_000_000);

    /// A workspace with a binary that was built at [`BUILT`] and everything else before.
    struct Workspace(tempfile::TempDir);

    impl Workspace {
        fn new() -> Workspace {
            let workspace = Workspace(tempfile::tempdir().unwrap());
            for source in ["host/core/src/lib.rs", "host/core/src/plan.rs", "guests/sdk/lib.rs"] {
                workspace.write(source, "");
            }
            workspace.write("host/core/src/tests.rs", "");
            let deps = "/w/target/debug/deps";
            let sources = "host/core/src/lib.rs host/core/src/plan.rs";
            workspace.write(
                "target/debug/deps/salve_core-1.d",
                &format!(
                    "{deps}/salve_core-1.d: {sources}\n\n{deps}/libsalve_core-1.rlib: {sources}\n"
                ),
            );
            workspace.write(
                "target/debug/deps/salve_core-2.d",
                &format!("{deps}/salve_core-2: {sources} host/core/src/tests.rs\n"),
            );
            workspace.write(
                "target/debug/deps/serde-1.d",
                &format!("{deps}/libserde-1.rlib: /registry/serde/src/lib.rs\n"),
            );
            let guests = workspace.0.path().join("guests");
            workspace.write(
                "target/debug/build/salve-1/output",
                &format!("cargo::rerun-if-changed={}\ncargo::rustc-env=A=b\n", guests.display()),
            );
            workspace.write("target/debug/build/salve-tests-1/output", "");
            workspace.write("target/debug/salve", "");
            for folder in ["guests", "guests/sdk"] {
                workspace.touch(folder, BUILT - Duration::from_secs(1));
            }
            workspace.touch("target/debug/salve", BUILT);
            workspace
        }

        fn write(&self, path: &str, text: &str) {
            let file = self.0.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            self.touch(path, BUILT - Duration::from_secs(1));
        }

        fn touch(&self, path: &str, since_epoch: Duration) {
            let file = fs::File::open(self.0.path().join(path)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + since_epoch).unwrap();
        }

        fn check(&self) -> Result<(), String> {
            let profile = self.0.path().join("target/debug");
            ensure_current(&profile.join("salve"), &profile, self.0.path())
                .map_err(|error| format!("{error:#}"))
        }
    }

    #[test]
    fn a_binary_that_is_newer_than_its_sources_is_current() {
        assert_eq!(Workspace::new().check(), Ok(()));
    }

    #[test]
    fn a_newer_source_makes_the_binary_stale() {
        for source in ["host/core/src/plan.rs", "guests/sdk/lib.rs"] {
            let workspace = Workspace::new();
            workspace.touch(source, BUILT + Duration::from_secs(1));
            let error = workspace.check().unwrap_err();
            assert!(error.contains(&format!("{source} is newer than")), "{error}");
            assert!(error.contains("run `cargo build`"), "{error}");
        }
    }

    #[test]
    fn a_removed_source_makes_the_binary_stale() {
        let workspace = Workspace::new();
        fs::remove_file(workspace.0.path().join("host/core/src/plan.rs")).unwrap();
        let error = workspace.check().unwrap_err();
        assert!(error.contains("plan.rs was removed after building"), "{error}");
    }

    #[test]
    fn a_newer_file_of_unit_tests_does_not_matter() {
        let workspace = Workspace::new();
        workspace.touch("host/core/src/tests.rs", BUILT + Duration::from_secs(1));
        assert_eq!(workspace.check(), Ok(()));
    }

    #[test]
    fn only_the_latest_build_of_a_crate_counts() {
        let workspace = Workspace::new();
        let earlier = "target/debug/deps/salve_core-3.d";
        workspace.write(earlier, "libsalve_core-3.rlib: host/core/src/lib.rs host/gone.rs\n");
        workspace.touch(earlier, BUILT - Duration::from_secs(2));
        assert_eq!(workspace.check(), Ok(()));
    }

    #[test]
    fn dep_info_of_a_removed_crate_is_ignored() {
        let workspace = Workspace::new();
        workspace.write(
            "target/debug/deps/salve_old-1.d",
            "libsalve_old-1.rlib: host/old/src/lib.rs host/old/src/work.rs\n",
        );
        assert_eq!(workspace.check(), Ok(()));
    }

    #[test]
    fn an_escaped_space_belongs_to_the_path() {
        let sources = linked_sources("liba.rlib: a\\ b/lib.rs a\\ b/c.rs\n").unwrap();
        assert_eq!(sources, [PathBuf::from("a b/lib.rs"), PathBuf::from("a b/c.rs")]);
    }
}
