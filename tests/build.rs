//! Switches the stories on that need what the task runner builds or finds: the real control plane (`cfg(control_plane)`)
//! and a browser (`cfg(browser)`). Elsewhere the test runner lists them as ignored, with what to type.

use std::fs;
use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(control_plane, browser)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=control-plane");
    let package =
        std::env::var("CARGO_MANIFEST_DIR").expect("cargo tells every build script its package");
    let sources = Path::new(&package).join("control-plane");
    let target = Path::new(&package).join("../target");
    let (built, browser) = (target.join("control-plane"), target.join("browser"));
    for watched in [&built, &browser] {
        // cargo takes a watched path that is not there for changed, and would build the stories anew each time.
        fs::create_dir_all(watched).expect("the folder target can be written");
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    if is_complete(&sources, &built) {
        println!("cargo::rustc-cfg=control_plane");
    }
    if ["chromium", "chromedriver"].iter().all(|program| {
        fs::read_to_string(browser.join(program)).is_ok_and(|path| Path::new(&path).is_file())
    }) {
        println!("cargo::rustc-cfg=browser");
    }
}

/// Whether what stands there was built from the modules that are pinned now: the task runner leaves a copy of what it
/// built from as its last act.
fn is_complete(sources: &Path, built: &Path) -> bool {
    let Ok(groups) = fs::read_dir(sources) else { return false };
    let modules: Vec<_> = groups
        .flatten()
        .map(|group| group.path().join("go.mod"))
        .filter(|module| module.is_file())
        .collect();
    let pinned = |module: &Path| {
        let group = module.parent().and_then(Path::file_name).unwrap_or_default();
        let copy = built.join("built-from").join(group).with_extension("mod");
        matches!((fs::read(module), fs::read(copy)), (Ok(now), Ok(then)) if now == then)
    };
    !modules.is_empty() && modules.iter().all(|module| pinned(module))
}
