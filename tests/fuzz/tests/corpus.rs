//! Runs the fuzz targets on the corpus: inputs that fuzzing found, and those that it starts from.

use std::fs;
use std::path::Path;

fn run_corpus(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut count = 0;
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        target(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count >= 4, "only {count} inputs in {}", folder.display());
}

#[test]
fn documents() {
    run_corpus("documents", salve_fuzz::documents);
}

#[test]
fn run_files() {
    run_corpus("run-file", salve_fuzz::run_file);
}

#[test]
fn logs() {
    run_corpus("logs", salve_fuzz::logs);
}

#[test]
fn components() {
    run_corpus("component", salve_fuzz::component);
}
