//! Runs the README of the example step by step with the real `salve`, as a new user would, and
//! checks that another build of the guest works as well. Each `sh` block is run; a `text` block
//! after it is the expected output.

use salve_core::digest::of_bytes;
use salve_guest_builder::copy;
use salve_tests::control_plane::PROXIES;
use salve_tests::salve::program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const EXAMPLE: &str = "examples/restart-if-stuck";
const VERSIONS: [&str; 2] = ["0.1.0", "0.2.0"];
const COMPONENT: &str = "target/wasm32-unknown-unknown/release/restart_if_stuck.wasm";

/// A new user with a copy of the repository, which keeps its build output, and an empty home. One
/// at a time, so that the guest's dependencies are compiled once.
struct NewUser {
    checkout: PathBuf,
    home: tempfile::TempDir,
    _only: MutexGuard<'static, ()>,
}

impl NewUser {
    fn new() -> Self {
        static ONLY: Mutex<()> = Mutex::new(());
        let only = ONLY.lock().unwrap_or_else(PoisonError::into_inner);
        let checkout = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-user");
        copy(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap(), &checkout).unwrap();
        Self { checkout, home: tempfile::tempdir().unwrap(), _only: only }
    }

    fn example(&self) -> PathBuf {
        self.checkout.join(EXAMPLE)
    }

    fn shell(&self, folder: &Path, script: &str) -> Command {
        let path = format!(
            "{}:{}",
            program().unwrap().parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
        let mut shell = Command::new("sh");
        shell
            .args(["-euc", script])
            .current_dir(folder)
            .env("PATH", path)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        shell
            .env("XDG_STATE_HOME", self.home.path())
            .env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
        // A new user has not set the variables of this build.
        for name in [
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTFLAGS",
            "KUBECONFIG",
        ] {
            shell.env_remove(name);
        }
        if script.contains("salve ") {
            // The cluster is on loopback; only cargo may need the proxy.
            PROXIES.iter().fold(&mut shell, |shell, proxy| shell.env_remove(proxy));
        }
        shell
    }

    /// Runs a step. Returns its exit code and its output.
    fn run(&self, folder: &Path, script: &str) -> (i32, String) {
        let Output { status, stdout, stderr } = self.shell(folder, script).output().unwrap();
        (
            status.code().expect("the step was not killed by a signal"),
            String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned(),
        )
    }

    /// Runs a step in another terminal and waits until it has written its kubeconfig completely.
    fn start_cluster(&self, folder: &Path, script: &str) -> Terminal {
        let kubeconfig = folder.join("sim.kubeconfig");
        let _ = fs::remove_file(&kubeconfig);
        // `exec` makes salve the child process, so that it can be killed.
        let terminal = Terminal(
            self.shell(folder, &format!("exec {script}")).stdout(Stdio::null()).spawn().unwrap(),
        );
        let deadline = Instant::now() + Duration::from_secs(30);
        while !fs::read_to_string(&kubeconfig).is_ok_and(|text| text.ends_with("user: {}\n")) {
            assert!(Instant::now() < deadline, "{script} did not write a kubeconfig");
            std::thread::sleep(Duration::from_millis(20));
        }
        terminal
    }
}

/// The simulated cluster in another terminal. It is killed on drop.
struct Terminal(Child);

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the steps of the README, each with its expected output.
fn steps(readme: &str) -> Vec<(String, Option<String>)> {
    let mut steps: Vec<(String, Option<String>)> = vec![];
    for block in readme.split("\n```").skip(1).step_by(2) {
        match block.split_once('\n').unwrap() {
            ("sh", script) => steps.push((script.into(), None)),
            ("text", expected) => steps.last_mut().unwrap().1 = Some(expected.into()),
            (other, _) => panic!("unexpected language of a code block: {other:?}"),
        }
    }
    steps
}

#[test]
fn following_the_readme_fixes_the_incident() {
    let new_user = NewUser::new();
    let steps = steps(&fs::read_to_string(new_user.example().join("README.md")).unwrap());
    let (mut folder, mut codes, mut terminal) = (new_user.checkout.clone(), vec![], None);
    for (script, expected) in &steps {
        if script.starts_with("salve sim") {
            terminal = Some(new_user.start_cluster(&folder, script));
            continue;
        }
        let (code, output) = new_user.run(&folder, script);
        assert!(
            output.contains(expected.as_deref().unwrap_or_default().trim_end()),
            "expected {expected:?} in the output of {script}:\n{output}"
        );
        codes.push((
            script.lines().last().unwrap().split(' ').take(2).collect::<Vec<_>>().join(" "),
            code,
        ));
        if let Some(into) = script.lines().next().unwrap().strip_prefix("cd ") {
            folder = folder.join(into);
        }
    }
    let expected = [
        ("cargo build", 0),
        ("salve inspect", 0),
        ("salve check", 1),
        ("salve plan", 0),
        ("salve run", 0),
        ("salve check", 0),
    ];
    assert_eq!(
        codes.iter().map(|(step, code)| (step.as_str(), *code)).collect::<Vec<_>>(),
        expected
    );

    // "Remove the last grant": no request is sent, so the cluster is no longer needed.
    drop(terminal);
    let remediation = new_user.example().join("remediation.yaml");
    let fewer_grants: String = fs::read_to_string(&remediation)
        .unwrap()
        .lines()
        .filter(|l| !l.contains("restart-deployment"))
        .map(|l| format!("{l}\n"))
        .collect();
    fs::write(&remediation, fewer_grants).unwrap();
    let (code, output) =
        new_user.run(&folder, "salve run remediation.yaml --kubeconfig sim.kubeconfig --yes");
    assert_eq!(code, 3, "{output}");
    assert!(
        output.contains("imports restart-deployment, which no document grants; nothing was done"),
        "{output}"
    );
}

#[test]
fn another_build_of_the_guest_runs_with_the_same_salve() {
    let new_user = NewUser::new();
    let before = of_bytes(&fs::read(program().unwrap()).unwrap());
    let mut digests = vec![];
    for version in VERSIONS {
        let manifest = new_user.example().join("Cargo.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(
            &manifest,
            text.replace("version = \"0.1.0\"", &format!("version = \"{version}\"")),
        )
        .unwrap();
        let (code, output) = new_user.run(
            &new_user.example(),
            &format!("cargo build --release && cp {COMPONENT} {version}.wasm"),
        );
        assert_eq!(code, 0, "{output}");
        let (code, output) = new_user
            .run(&new_user.example(), &format!("salve inspect {version}.wasm --output json"));
        assert_eq!(code, 0, "{output}");
        let inspected: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert_eq!(inspected["guest"]["version"], version);
        digests.push(inspected["guest"]["digest"].clone());
    }
    assert_ne!(digests[0], digests[1]);

    let _cluster = new_user.start_cluster(
        &new_user.example(),
        "salve sim --incident stuck-importer --kubeconfig-out sim.kubeconfig",
    );
    for version in VERSIONS {
        let check = format!(
            "salve check {version}.wasm --remediation remediation.yaml --kubeconfig sim.kubeconfig"
        );
        let (code, output) = new_user.run(&new_user.example(), &check);
        assert!(
            code == 1 && output.contains("media/importer reports that it is stuck"),
            "{output}"
        );
    }
    assert_eq!(of_bytes(&fs::read(program().unwrap()).unwrap()), before, "salve has not changed");
}
