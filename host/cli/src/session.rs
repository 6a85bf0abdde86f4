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
use salve_run::{Halt, Journal, Mode, Person, Run, RunFile, Setting, Stop};
use salve_sandbox::{Guest, GuestEnd, Linking, Sandbox};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

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
        let report = Arc::new(Mutex::new(None));
        let run_file = runs.map(|folder| {
            RunFile::create(folder, &runs::file_name(at, &open.context, &id))
                .map_err(|e| Failed::host(format!("the run file cannot be made in {}: {e}", folder.display())))
        });
        let run_file = run_file.transpose()?;
        let file = run_file.as_ref().map(|f| f.path().to_owned());
        let journal = Box::new(Told { file: run_file, report: report.clone() });
        let stop = Stop::default();
        let insisted = stop.clone();
        let signals = tokio::spawn(heed(stop.clone()));
        let setting = Setting { backend: open.backend(&id, at + timeout * 1000, &stop), clock, journal, person, stop, mode };
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
        let report = report.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(|| Failed::host("the run has no header"))?;
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
    let sandbox = Sandbox::new(runs::cache().as_deref()).map_err(|e| Failed::host(e.to_string()))?;
    let guest = sandbox.load(component).map_err(|e| Failed::document(format!("{origin}: {e}")))?;
    let description = guest.describe(limits).await.map_err(|e| Failed::guest(format!("{origin}: describe: {e}")))?;
    Ok((guest, description))
}

/// The run file where there is one, and the report as it grows: what was read long ago is not kept in memory.
struct Told {
    file: Option<RunFile>,
    report: Arc<Mutex<Option<Report>>>,
}

impl Journal for Told {
    fn append(&mut self, entry: &Entry) -> std::io::Result<()> {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        match (entry, report.as_mut()) {
            (Entry::Header(header), _) => *report = Some(Report::begin(header)),
            (_, Some(report)) => report.hear(entry),
            (_, None) => {}
        }
        self.file.as_mut().map_or(Ok(()), |file| file.append(entry))
    }
    fn sync(&mut self) -> std::io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Journal::sync)
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
