//! Tasks around the code, by the standard library alone: `cargo xtask TASK`.

mod control_plane;
mod go;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask control-plane

  control-plane   builds the Kubernetes control plane, Flux controllers and custom resource definitions that the
                  stories in tests/ run on, into target/control-plane. Needs Go; about 12 minutes the first time.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["control-plane"] => control_plane::build(),
        ["--help" | "-h" | "help"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}
