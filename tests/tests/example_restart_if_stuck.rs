//! The example's README, done step by step as a newcomer would, with the real `salve`; and what it says of another
//! build of the guest. Its `sh` blocks are what runs, the `text` block after one is what has to be seen.

use salve_core::digest::of_bytes;
use salve_guest_builder::copy;
use salve_tests::control_plane::PROXIES;
use salve_tests::salve::program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const EXAMPLE: &str = "examples/restart-if-stuck";
const VERSIONS: [&str; 2] = ["0.1.0", "0.2.0"];
const COMPONENT: &str = "target/wasm32-unknown-unknown/release/restart_if_stuck.wasm";

/// A copy of the repository, which keeps what was built in it, and a home of its own.
struct Newcomer {
    checkout: PathBuf,
    home: tempfile::TempDir,
}

impl Newcomer {
    fn new(name: &str) -> Self {
        let checkout = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        copy(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap(), &checkout).unwrap();
        Self { checkout, home: tempfile::tempdir().unwrap() }
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
        // What this test was built with is not what a newcomer has set.
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
            // The cluster is on loopback; only cargo may need the way out.
            PROXIES.iter().fold(&mut shell, |shell, proxy| shell.env_remove(proxy));
        }
        shell
    }

    /// Runs a step; what it told, and its exit code.
    fn does(&self, folder: &Path, script: &str) -> (i32, String) {
        let Output { status, stdout, stderr } = self.shell(folder, script).output().unwrap();
        (
            status.code().expect("no signal ended it"),
            String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned(),
        )
    }

    /// Does a step in another terminal, and waits until its kubeconfig is whole.
    fn serves(&self, folder: &Path, script: &str) -> Terminal {
        let kubeconfig = folder.join("sim.kubeconfig");
        let _ = fs::remove_file(&kubeconfig);
        // `exec`, so that the process is salve's own.
        let terminal = Terminal(
            self.shell(folder, &format!("exec {script}")).stdout(Stdio::null()).spawn().unwrap(),
        );
        let deadline = Instant::now() + Duration::from_secs(30);
        while !fs::read_to_string(&kubeconfig).is_ok_and(|text| text.ends_with("user: {}\n")) {
            assert!(Instant::now() < deadline, "{script} wrote no kubeconfig");
            std::thread::sleep(Duration::from_millis(20));
        }
        terminal
    }
}

/// The simulated cluster in "another terminal", ended by its process id when the newcomer is through.
struct Terminal(Child);

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The README's steps, each with what it says will be seen.
fn steps(readme: &str) -> Vec<(String, Option<String>)> {
    let mut steps: Vec<(String, Option<String>)> = vec![];
    for block in readme.split("\n```").skip(1).step_by(2) {
        match block.split_once('\n').unwrap() {
            ("sh", script) => steps.push((script.into(), None)),
            ("text", seen) => steps.last_mut().unwrap().1 = Some(seen.into()),
            (other, _) => panic!("what is a block of {other:?} to a newcomer?"),
        }
    }
    steps
}

#[test]
fn the_readme_takes_a_newcomer_from_nothing_to_fixed() {
    let newcomer = Newcomer::new("newcomer");
    let steps = steps(&fs::read_to_string(newcomer.example().join("README.md")).unwrap());
    let (mut folder, mut codes, mut terminal) = (newcomer.checkout.clone(), vec![], None);
    for (script, seen) in &steps {
        if script.starts_with("salve sim") {
            terminal = Some(newcomer.serves(&folder, script));
            continue;
        }
        let (code, told) = newcomer.does(&folder, script);
        assert!(
            told.contains(seen.as_deref().unwrap_or_default().trim_end()),
            "{script} was to show {seen:?}, and says:\n{told}"
        );
        codes.push((
            script.lines().last().unwrap().split(' ').take(2).collect::<Vec<_>>().join(" "),
            code,
        ));
        if let Some(into) = script.lines().next().unwrap().strip_prefix("cd ") {
            folder = folder.join(into);
        }
    }
    let wanted = [
        ("cargo build", 0),
        ("salve inspect", 0),
        ("salve check", 1),
        ("salve plan", 0),
        ("salve run", 0),
        ("salve check", 0),
    ];
    assert_eq!(codes.iter().map(|(step, code)| (step.as_str(), *code)).collect::<Vec<_>>(), wanted);

    // "Take the last grant away": nothing is asked of the cluster, so the incident needs not to be there any more.
    drop(terminal);
    let remediation = newcomer.example().join("remediation.yaml");
    let fewer: String = fs::read_to_string(&remediation)
        .unwrap()
        .lines()
        .filter(|l| !l.contains("restart-deployment"))
        .map(|l| format!("{l}\n"))
        .collect();
    fs::write(&remediation, fewer).unwrap();
    let (code, told) =
        newcomer.does(&folder, "salve run remediation.yaml --kubeconfig sim.kubeconfig --yes");
    assert_eq!(code, 3, "{told}");
    assert!(
        told.contains("imports restart-deployment, which nothing grants; nothing was done"),
        "{told}"
    );
}

#[test]
fn another_build_of_the_guest_needs_no_other_salve() {
    let newcomer = Newcomer::new("another-build");
    let before = of_bytes(&fs::read(program().unwrap()).unwrap());
    let mut seen = vec![];
    for version in VERSIONS {
        let manifest = newcomer.example().join("Cargo.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(
            &manifest,
            text.replace("version = \"0.1.0\"", &format!("version = \"{version}\"")),
        )
        .unwrap();
        let (code, told) = newcomer.does(
            &newcomer.example(),
            &format!("cargo build --release && cp {COMPONENT} {version}.wasm"),
        );
        assert_eq!(code, 0, "{told}");
        let (code, told) = newcomer
            .does(&newcomer.example(), &format!("salve inspect {version}.wasm --output json"));
        assert_eq!(code, 0, "{told}");
        let inspected: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(inspected["guest"]["version"], version);
        seen.push(inspected["guest"]["digest"].clone());
    }
    assert_ne!(seen[0], seen[1]);

    let _cluster = newcomer.serves(
        &newcomer.example(),
        "salve sim --incident stuck-importer --kubeconfig-out sim.kubeconfig",
    );
    for version in VERSIONS {
        let check = format!(
            "salve check {version}.wasm --remediation remediation.yaml --kubeconfig sim.kubeconfig"
        );
        let (code, told) = newcomer.does(&newcomer.example(), &check);
        assert!(code == 1 && told.contains("media/importer says that it is stuck"), "{told}");
    }
    assert_eq!(of_bytes(&fs::read(program().unwrap()).unwrap()), before, "it is the same salve");
}
