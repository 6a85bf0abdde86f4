//! The corpus holds: what fuzzing found, and what it starts from.

use std::fs;
use std::path::Path;

fn tell(target: &str, to: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut told = 0;
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        to(&fs::read(&path).unwrap());
        told += 1;
    }
    assert!(told >= 4, "{told} in {}", folder.display());
}

#[test]
fn documents() {
    tell("documents", salve_fuzz::documents);
}

#[test]
fn run_files() {
    tell("run-file", salve_fuzz::run_file);
}

#[test]
fn logs() {
    tell("logs", salve_fuzz::logs);
}

#[test]
fn components() {
    tell("component", salve_fuzz::component);
}
