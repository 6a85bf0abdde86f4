//! The `salve` binary.

fn main() -> std::process::ExitCode {
    salve::main()
}
