//! Compiles components in a separate process with resource limits: a component can make a compiler
//! use unbounded time and memory, and the process of a run must stay able to release suspensions.

use crate::output::CommandError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use salve_core::sanitize::sanitized;
use salve_sandbox::LoadError;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

/// The internal subcommand that compiles a component. It is not listed in `--help`.
pub const SUBCOMMAND: &str = "__compile-component";

/// The path of the running `salve` program. Set only by `main`: other programs that link this
/// crate have no such subcommand.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Maximum size of compiled code, in bytes.
const MAX_CODE_BYTES: u64 = 1 << 30;
/// Maximum size of the compiler's error output that is read, in bytes.
const MAX_STDERR_BYTES: u64 = 4096;

/// Limits on compiling a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Wall-clock time in seconds. CPU time may be twice as much.
    pub seconds: u64,
    /// Writable memory in MiB.
    pub mib: u64,
}

impl Default for Allowance {
    /// Returns limits far above the needs of a guest of a few megabytes.
    fn default() -> Self {
        Self { seconds: 120, mib: 2048 }
    }
}

/// Makes [`compile`] start this program as a separate process.
pub fn use_separate_process() {
    if let Ok(program) = std::env::current_exe() {
        drop(PROGRAM.set(program));
    }
}

/// Compiles a component: in a separate process after [`use_separate_process`], else in this one.
///
/// # Errors
/// The component is damaged or exceeds the limits.
pub fn compile(bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
    match PROGRAM.get() {
        Some(program) => compile_in_process(program, bytes, Allowance::default()),
        None => salve_sandbox::compile(bytes),
    }
}

/// Compiles a component in a new process of `program`, within `allowance`.
///
/// # Errors
/// As [`compile`]. The process has ended whenever this returns.
pub fn compile_in_process(
    program: &std::path::Path,
    bytes: &[u8],
    allowance: Allowance,
) -> Result<Vec<u8>, LoadError> {
    let host = |error: std::io::Error| {
        LoadError::Host(format!("failed to run the compiler process: {error}"))
    };
    let Allowance { seconds, mib } = allowance;
    let mut command = Command::new(program);
    command.args([SUBCOMMAND, &seconds.to_string(), &mib.to_string()]).env_clear();
    let mut child = KillOnDrop(
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(host)?,
    );
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take())
    else {
        return Err(LoadError::Host("the compiler process has no pipes".into()));
    };
    let (send, receive) = mpsc::channel();
    std::thread::scope(|scope| {
        // Writing fails if the process ends early; its exit status says why.
        scope.spawn(move || drop(stdin.write_all(bytes)));
        let message = scope.spawn(move || read(stderr, MAX_STDERR_BYTES));
        scope.spawn(move || drop(send.send(read(stdout, MAX_CODE_BYTES))));
        let timeout = Duration::from_secs(seconds);
        let code = receive.recv_timeout(timeout);
        let over_limit = |why: String| LoadError::Compiling { seconds, mib, why };
        let Ok(code) = code else {
            drop(child.0.kill());
            return Err(over_limit("it timed out".into()));
        };
        let status = child.0.wait().map_err(host)?;
        let message =
            String::from_utf8_lossy(&message.join().unwrap_or_default()).trim().to_owned();
        match status.code() {
            Some(0) if !code.is_empty() => Ok(code),
            Some(INVALID_COMPONENT) => Err(LoadError::Damaged(sanitized(&message))),
            _ => Err(over_limit(format!(
                "the compiler ended with {status}{}",
                if message.is_empty() {
                    String::new()
                } else {
                    format!(": {}", sanitized(&message))
                }
            ))),
        }
    })
}

fn read(from: impl Read, limit: u64) -> Vec<u8> {
    let mut bytes = vec![];
    drop(from.take(limit).read_to_end(&mut bytes));
    bytes
}

/// A child process that is killed and reaped on drop.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The exit code of the subcommand for a component that cannot be compiled.
const INVALID_COMPONENT: i32 = 2;

/// Runs the internal subcommand: limits this process, compiles stdin, and writes the code to
/// stdout.
pub fn run_subcommand(arguments: &[String]) -> Result<u8, CommandError> {
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    let (Some(seconds), Some(mib)) = (number(0), number(1)) else {
        return Err(CommandError::usage(
            "this subcommand is internal: salve uses it to compile components",
        ));
    };
    for (resource, limit) in [
        (Resource::Data, mib << 20),
        (Resource::Cpu, seconds * 2),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, 16),
    ] {
        // A lower limit that is already set stays.
        // mutant existing-limit-raised: set| limit.min(set) ~> _| limit
        let limit = getrlimit(resource).maximum.map_or(limit, |set| limit.min(set));
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        setrlimit(resource, limit).map_err(|error| {
            CommandError::host(format!("failed to set a resource limit of the compiler: {error}"))
        })?;
    }
    let bytes = read(std::io::stdin().lock(), salve_sandbox::SIZE_CEILING as u64 + 1);
    match salve_sandbox::compile(&bytes) {
        Ok(code) => std::io::stdout().lock().write_all(&code).map(|()| 0).map_err(|error| {
            CommandError::host(format!("failed to write the compiled code: {error}"))
        }),
        Err(LoadError::Damaged(why)) => Err(CommandError::document(why)),
        Err(other) => Err(CommandError::host(other.to_string())),
    }
}
