//! Builds the guests that ship inside the binary.

use salve_guest_builder::Project;
use std::env;
use std::path::PathBuf;

fn main() {
    // Where it lies now: a tree can be moved with what was built in it.
    let package = PathBuf::from(
        env::var_os("CARGO_MANIFEST_DIR").expect("cargo tells every build script its package"),
    );
    let root = package.ancestors().nth(2).expect("host/cli lies two levels down");
    for watched in ["guests", "wit", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
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
