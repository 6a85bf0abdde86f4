//! Enables the tests that need what the task runner builds or finds: the real control plane
//! (`cfg(control_plane)`) and a browser (`cfg(browser)`). Without them, the test runner lists those
//! tests as ignored, together with the command that enables them.

use std::fs;
use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(control_plane, browser)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=control-plane");
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let sources = Path::new(&package).join("control-plane");
    let target = Path::new(&package).join("../target");
    let (built, browser) = (target.join("control-plane"), target.join("browser"));
    for watched in [&built, &browser] {
        // Cargo treats a missing path as changed and would rebuild the tests every time.
        fs::create_dir_all(watched).expect("the directory target is writable");
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

/// Returns whether the control plane was built completely from the Go modules as they are now. The
/// last step of `cargo xtask control-plane` copies the `go.mod` files that it built from.
fn is_complete(sources: &Path, built: &Path) -> bool {
    let Ok(groups) = fs::read_dir(sources) else { return false };
    let modules: Vec<_> = groups
        .flatten()
        .map(|group| group.path().join("go.mod"))
        .filter(|module| module.is_file())
        .collect();
    let is_current = |module: &Path| {
        let group = module.parent().and_then(Path::file_name).unwrap_or_default();
        let copy = built.join("built-from").join(group).with_extension("mod");
        matches!((fs::read(module), fs::read(copy)), (Ok(now), Ok(then)) if now == then)
    };
    !modules.is_empty() && modules.iter().all(|module| is_current(module))
}
