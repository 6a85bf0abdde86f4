//! Builds the guests that are embedded in the binary.

use salve_guest_builder::Project;
use std::env;
use std::path::{Path, PathBuf};

/// Watches the files of a package, except for tests: they are in no component, and building one
/// takes long.
fn watch(folder: &Path) {
    let entries = std::fs::read_dir(folder).expect("the package is part of the workspace");
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if !path.is_dir() {
            println!("cargo::rerun-if-changed={}", path.display());
        } else if !path.ends_with("tests") {
            watch(&path);
        }
    }
}

fn main() {
    // Read at run time, not with env!: the repository may have moved since this script was built.
    let package =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let root = package.ancestors().nth(2).expect("host/cli is two levels below the root");
    for watched in ["wit", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    for package in ["guests/sdk", "guests/volsync-unlock"] {
        watch(&root.join(package));
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    match (Project { root, package: "volsync-unlock", profile: "guest" })
        .component(&out.join("guests"))
    {
        Ok(component) => println!("cargo::rustc-env=VOLSYNC_UNLOCK={}", component.display()),
        Err(why) => {
            println!("cargo::error={why}");
            std::process::exit(1);
        }
    }
}
