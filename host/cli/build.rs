//! Builds the guests that are embedded in the binary.

use salve_guest_builder::Project;
use std::env;
use std::path::PathBuf;

fn main() {
    // Read at run time, not with env!: the repository may have moved since this script was built.
    let package =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let root = package.ancestors().nth(2).expect("host/cli is two levels below the root");
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
