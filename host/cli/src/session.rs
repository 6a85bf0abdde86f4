//! What check, plan, run and demo share: a guest, a cluster, one run of the one on the other.

use crate::cluster::Open;
use crate::configuration::Schema;
use crate::guest::Chosen;
use crate::runs;
use crate::tell::{Failed, Live};
use salve_core::document::Limits;
use salve_core::effect::suspend_flux::Resume;
use salve_core::journal::{Closing, Ending, Entry, FORMAT, Header};
use salve_core::report::{Description, Report};
use salve_run::{Halt, InMemory, Journal, Mode, Person, Run, RunFile, Setting, Stop};
use salve_sandbox::{Guest, GuestEnd, Linking, Sandbox};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A guest that was looked at and may be run.
pub struct Ready {
    chosen: Chosen,
    guest: Guest,
    /// What it says of itself.
    pub description: Description,
    configuration: Value,
}

/// A run that has ended.
pub struct Over {
    /// Its report.
    pub report: Report,
    /// Its closing.
    pub closing: Closing,
    /// What a plan would give back.
    pub releases: Vec<Resume>,
    /// Its run file, where it has one.
    pub file: Option<PathBuf>,
}

impl Ready {
    /// Loads the component, refuses what cannot run here, and fills its configuration.
    pub async fn prepare(chosen: Chosen, config_file: Option<&Path>, config: &[String]) -> Result<Self, Failed> {
        let (guest, description) = load(&chosen.component, &chosen.origin, chosen.limits).await?;
        let configuration = Schema::read(&description.configuration)?.fill(&chosen.configuration, config_file, config)?;
        Ok(Self { chosen, guest, description, configuration })
    }

    /// The documents that hold, for people.
    pub fn layers(&self) -> String {
        let names: Vec<_> = self.chosen.grants.layers.iter().map(|l| l.source.as_str()).collect();
        names.join(" and ")
    }

    /// Refuses, naming all of them, touches that the guest imports and nothing grants.
    pub fn refuse_ungranted(&self) -> Result<(), Failed> {
        self.guest.link(Linking::Granted(&self.chosen.grants)).map(|_| ()).map_err(|e| Failed::denied(e.to_string()))
    }

    /// Runs it once.
    pub async fn run(&self, mode: Mode, open: &Open, runs: Option<&Path>, person: Box<dyn Person>) -> Result<Over, Failed> {
        let clock = open.clock();
        let at = clock.now();
        let id = runs::id()?;
        let timeout = self.configuration["timeout"].as_u64().unwrap_or(3600);
        let entries = InMemory::default();
        let (journal, file): (Box<dyn Journal>, _) = match runs {
            Some(folder) => {
                let file = RunFile::create(folder, &runs::file_name(at, &open.context, &id))
                    .map_err(|e| Failed::host(format!("the run file cannot be made in {}: {e}", folder.display())))?;
                let path = file.path().to_owned();
                (Box::new(Both { file, memory: entries.clone() }), Some(path))
            }
            None => (Box::new(entries.clone()), None),
        };
        let stop = Stop::default();
        let insisted = stop.clone();
        let signals = tokio::spawn(heed(stop.clone()));
        let setting = Setting { backend: open.backend(&id, at + timeout * 1000), clock, journal, person, stop, mode };
        let command = match mode {
            Mode::Live => "run",
            Mode::Plan => "plan",
            Mode::Diagnosis => "check",
        };
        let header = Header {
            format: FORMAT,
            run: id,
            at,
            command: command.into(),
            salve: env!("CARGO_PKG_VERSION").into(),
            guest: self.description.clone(),
            digest: self.chosen.digest.clone(),
            configuration: self.configuration.clone(),
            grants: self.chosen.grants.clone(),
            context: open.context.clone(),
            cluster: open.identity.uid.clone(),
            user: open.identity.user.clone(),
        };
        let run = Run::begin(setting, header).map_err(|e| Failed::host(e.to_string()))?;
        let config = self.configuration.to_string();
        let linking = match mode {
            Mode::Live | Mode::Plan => Linking::Granted(&self.chosen.grants),
            Mode::Diagnosis => Linking::Every,
        };
        let linked = self.guest.link(linking).map_err(|e| Failed::denied(e.to_string()))?;
        let limits = self.chosen.limits;
        let mut seat = Some(run);
        let ended = {
            let call = async {
                match mode {
                    Mode::Diagnosis => linked.diagnose(&mut seat, &config, limits).await.map(Ending::Diagnosed),
                    Mode::Live | Mode::Plan => linked.remediate(&mut seat, &config, limits).await.map(Ending::Concluded),
                }
            };
            tokio::select! {
                ended = call => ended,
                // A guest that calls nothing never comes to a safe point: it is dropped where it stands.
                () = insisted.wait_insisted() => Err(GuestEnd::Halted(Halt::Stopped)),
            }
        };
        let run = seat.ok_or_else(|| Failed::host("the sandbox did not give the run back"))?;
        let ending = ended.unwrap_or_else(|end| end.ending(&run));
        let releases = run.open();
        let closing = run.finish(ending).await;
        signals.abort();
        let report = Report::of(&entries.entries()).ok_or_else(|| Failed::host("the run has no header"))?;
        Ok(Over { report, closing, releases, file })
    }
}

/// Who watches a run: each step as it happens.
pub fn watcher(verbose: u8, may_ask: bool) -> Box<dyn Person> {
    Box::new(Live::new(verbose > 0, may_ask))
}

/// Who watches a check or a plan: what is waited for, and then the answer whole.
pub fn quiet_watcher(may_ask: bool) -> Box<dyn Person> {
    Box::new(Live::new(false, may_ask).quiet())
}

/// Looks at a component, compiles it, and asks what it is with every capability out of reach.
pub async fn load(component: &[u8], origin: &str, limits: Limits) -> Result<(Guest, Description), Failed> {
    let sandbox = Sandbox::new(Some(&runs::cache())).map_err(|e| Failed::host(e.to_string()))?;
    let guest = sandbox.load(component).map_err(|e| Failed::document(format!("{origin}: {e}")))?;
    let description = guest.describe(limits).await.map_err(|e| Failed::guest(format!("{origin}: describe: {e}")))?;
    Ok((guest, description))
}

/// The run file, and a copy for the report.
struct Both {
    file: RunFile,
    memory: InMemory,
}

impl Journal for Both {
    fn append(&mut self, entry: &Entry) -> std::io::Result<()> {
        self.memory.append(entry)?;
        self.file.append(entry)
    }
    fn sync(&mut self) -> std::io::Result<()> {
        self.file.sync()
    }
}

/// Ctrl-C, SIGTERM and a closed terminal: once to stop at the next safe point, twice to release at once and go.
async fn heed(stop: Stop) {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else { return };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        stop.request();
        let word = match stop.level() {
            1 => "stopping at the next safe point (again to stop at once)",
            2 => "stopping at once: what is suspended is resumed first (again to leave it)",
            _ => "leaving: `salve doctor` finds what is still suspended",
        };
        // Whoever read this may have gone with the terminal.
        drop(writeln!(std::io::stderr(), "\n{word}"));
    }
}
