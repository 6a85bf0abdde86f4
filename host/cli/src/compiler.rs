//! Compiling in a process of its own, with limits: a component can make a compiler take time and memory without end, and the run's own
//! process has suspensions to give back.

use crate::output::Failed;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use salve_core::sanitize::sanitized;
use salve_sandbox::LoadError;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

/// The word that this program is started with to compile. No command: nobody types it.
pub const SUBCOMMAND: &str = "__compile-component";

/// Where this program lies. Set by `main` alone: what links this crate as a library has no such word.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Compiled code is larger than the component, and there is an end to that too.
const LARGEST: u64 = 1 << 30;
/// So much of what a compiler says is told on.
const WORDS: u64 = 4096;

/// What compiling may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Wall time, and time of each processor, in seconds.
    pub seconds: u64,
    /// Memory that it may write to, MiB.
    pub mib: u64,
}

impl Default for Allowance {
    /// Far beyond what a guest of some megabytes needs.
    fn default() -> Self {
        Self { seconds: 120, mib: 2048 }
    }
}

/// From here on components are compiled by this program in processes of their own.
pub fn is_this_program() {
    if let Ok(program) = std::env::current_exe() {
        drop(PROGRAM.set(program));
    }
}

/// Compiles elsewhere, where this is the program; here otherwise.
///
/// # Errors
/// The component is damaged, or takes more than it may.
pub fn compile(bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
    match PROGRAM.get() {
        Some(program) => elsewhere(program, bytes, Allowance::default()),
        None => salve_sandbox::compile(bytes),
    }
}

/// Has `program` compile a component, and takes no longer than it may.
///
/// # Errors
/// As [`compile`]. The other process is gone whenever this returns.
pub fn elsewhere(
    program: &std::path::Path,
    bytes: &[u8],
    allowance: Allowance,
) -> Result<Vec<u8>, LoadError> {
    let host = |error: std::io::Error| LoadError::Host(format!("a process to compile in: {error}"));
    let Allowance { seconds, mib } = allowance;
    let mut command = Command::new(program);
    command.args([SUBCOMMAND, &seconds.to_string(), &mib.to_string()]).env_clear();
    let mut child = GuestExited(
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
        return Err(LoadError::Host("a process without pipes".into()));
    };
    let (send, receive) = mpsc::channel();
    std::thread::scope(|scope| {
        // One that ends early reads no further; how it ended tells why.
        scope.spawn(move || drop(stdin.write_all(bytes)));
        let said = scope.spawn(move || read(stderr, WORDS));
        scope.spawn(move || drop(send.send(read(stdout, LARGEST))));
        let late = Duration::from_secs(seconds);
        let code = receive.recv_timeout(late);
        let too_much = |why: String| LoadError::Compiling { seconds, mib, why };
        let Ok(code) = code else {
            drop(child.0.kill());
            return Err(too_much("its time was over".into()));
        };
        let status = child.0.wait().map_err(host)?;
        let said = String::from_utf8_lossy(&said.join().unwrap_or_default()).trim().to_owned();
        match status.code() {
            Some(0) if !code.is_empty() => Ok(code),
            Some(BROKEN) => Err(LoadError::Damaged(sanitized(&said))),
            _ => Err(too_much(format!(
                "the compiler ended by {status}{}",
                if said.is_empty() { String::new() } else { format!(": {}", sanitized(&said)) }
            ))),
        }
    })
}

fn read(from: impl Read, most: u64) -> Vec<u8> {
    let mut bytes = vec![];
    drop(from.take(most).read_to_end(&mut bytes));
    bytes
}

/// A process that does not outlive whoever waits for it.
struct GuestExited(Child);

impl Drop for GuestExited {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The exit code for a component that cannot be compiled at all.
const BROKEN: i32 = 2;

/// The other process: limits itself, compiles what comes in, and writes the code.
pub fn answer(arguments: &[String]) -> Result<u8, Failed> {
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    let (Some(seconds), Some(mib)) = (number(0), number(1)) else {
        return Err(Failed::usage(
            "this word is for Salve itself: it compiles a component for another process",
        ));
    };
    for (resource, most) in [
        (Resource::Data, mib << 20),
        (Resource::Cpu, seconds * 2),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, 16),
    ] {
        // Nobody may raise what somebody else has set lower.
        // mutant existing-limit-raised: set| most.min(set) ~> _| most
        let most = getrlimit(resource).maximum.map_or(most, |set| most.min(set));
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit)
            .map_err(|error| Failed::host(format!("a limit of the compiler: {error}")))?;
    }
    let bytes = read(std::io::stdin().lock(), salve_sandbox::SIZE_CEILING as u64 + 1);
    match salve_sandbox::compile(&bytes) {
        Ok(code) => std::io::stdout()
            .lock()
            .write_all(&code)
            .map(|()| 0)
            .map_err(|error| Failed::host(format!("writing the code: {error}"))),
        Err(LoadError::Damaged(why)) => Err(Failed::document(why)),
        Err(other) => Err(Failed::host(other.to_string())),
    }
}
