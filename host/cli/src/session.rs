//! What check, plan, run, recover and demo share: a guest, a cluster, one run of the one on the other.

use crate::arguments::GuestOptions;
use crate::cluster::ClusterSession;
use crate::compiler;
use crate::components;
use crate::configuration::Schema;
use crate::guest::ResolvedGuest;
use crate::output::{Failed, Live};
use crate::plans::Plan;
use crate::runs;
use salve_core::document::Limits;
use salve_core::effect::host::{CheckPolicies, PolicyStatus, ReviewAccess};
use salve_core::grants::Grants;
use salve_core::journal::{Entry, FORMAT, GuestExit, Header, Recovery, RunResult};
use salve_core::permission::admission;
use salve_core::permission::enforcement::{self, Enforcement};
use salve_core::permission::needs::{Needs, functions};
use salve_core::report::{Description, Report};
use salve_run::{Halt, Journal, Mode, Observer, Run, RunContext, RunFile, Stop};
use salve_sandbox::{Guest, GuestEnd, Linked, Linking, Sandbox};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;

/// A guest that was looked at and may be run.
pub struct PreparedRun {
    chosen: ResolvedGuest,
    guest: Guest,
    /// What it says of itself.
    pub description: Description,
    configuration: Value,
    /// What a observer has approved of it.
    plan: Option<Plan>,
}

/// A run that has ended.
pub struct FinishedRun {
    /// Its report.
    pub report: Report,
    /// Its closing.
    pub closing: RunResult,
    /// Its run file, where it has one.
    pub file: Option<PathBuf>,
    /// Where its guest parted from the record of a run that was taken up.
    pub parts: Option<Divergence>,
}

impl PreparedRun {
    /// Loads the component, refuses what cannot run here, and fills its configuration.
    pub async fn prepare(chosen: ResolvedGuest, terms: &GuestOptions) -> Result<Self, Failed> {
        let (guest, description) = load(&chosen.component, &chosen.origin, chosen.limits).await?;
        let configuration = Schema::read(&description.configuration)?.fill(
            &chosen.configuration,
            terms.config_file.as_deref(),
            &terms.config,
        )?;
        Ok(Self { chosen, guest, description, configuration, plan: None })
    }

    /// Binds its runs to a plan that was approved.
    ///
    /// # Errors
    /// It was approved for something else.
    pub fn under(self, plan: Plan) -> Result<Self, Failed> {
        // mutant plan-binds-nothing: plan.binds(&self.chosen, &self.configuration)? ~> let _ =
        //     plan.binds(&self.chosen, &self.configuration)
        plan.binds(&self.chosen, &self.configuration)?;
        Ok(Self { plan: Some(plan), ..self })
    }

    /// The component.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// The documents that hold, for people.
    pub fn layers(&self) -> String {
        let names: Vec<_> = self.chosen.grants.layers.iter().map(|l| l.source.as_str()).collect();
        names.join(" and ")
    }

    /// Refuses, naming all of them, touches that the guest imports and nothing grants.
    pub fn refuse_ungranted(&self) -> Result<(), Failed> {
        self.guest
            .link(Linking::Granted(&self.chosen.grants))
            .map(|_| ())
            .map_err(|e| Failed::denied(e.to_string()))
    }

    /// Runs it once, with its run file in the folder `runs`.
    pub async fn run(
        &self,
        mode: Mode,
        open: &ClusterSession,
        runs: Option<&Path>,
        observer: Box<dyn Observer>,
    ) -> Result<FinishedRun, Failed> {
        let id = runs::id()?;
        let file = match runs {
            Some(folder) => {
                components::keep(folder, &self.chosen.digest, &self.chosen.component)?;
                let file = RunFile::create(
                    folder,
                    &runs::file_name(open.clock().now(), &open.context, &id),
                );
                Some(file.map_err(|e| {
                    Failed::host(format!(
                        "the run file cannot be made in {}: {e}",
                        folder.display()
                    ))
                })?)
            }
            None => None,
        };
        self.run_on(mode, open, &id, file, observer).await
    }

    /// Runs it once, on this run file.
    pub async fn run_on(
        &self,
        mode: Mode,
        open: &ClusterSession,
        id: &str,
        file: Option<RunFile>,
        observer: Box<dyn Observer>,
    ) -> Result<FinishedRun, Failed> {
        let enforcement = if mode == Mode::Live { self.enforcement(open).await } else { None };
        let header = Header { enforcement, ..self.header(mode, open, id) };
        let (underway, mut run) = begin(open, header, file, observer, mode)?;
        if let (Mode::Live, Some(plan)) = (mode, &self.plan) {
            let fresh = plan.fresh(open.clock().now()).unwrap_or_else(|why| {
                anstream::eprintln!("{why}");
                &[]
            });
            run = run.approved(plan.approval(), fresh).map_err(|e| Failed::host(e.to_string()))?;
        }
        let linking = match mode {
            Mode::Live | Mode::Plan => Linking::Granted(&self.chosen.grants),
            Mode::Diagnosis | Mode::Replay => Linking::Every,
        };
        let linked = self.guest.link(linking).map_err(|e| Failed::denied(e.to_string()))?;
        underway.play(run, &linked, mode, &self.configuration.to_string(), self.chosen.limits).await
    }

    fn header(&self, mode: Mode, open: &ClusterSession, id: &str) -> Header {
        let at = open.clock().now();
        let command = match mode {
            Mode::Live => "run",
            Mode::Plan => "plan",
            Mode::Diagnosis | Mode::Replay => "check",
        };
        Header {
            format: FORMAT,
            run: id.into(),
            at,
            command: command.into(),
            salve: env!("CARGO_PKG_VERSION").into(),
            guest: self.description.clone(),
            digest: self.chosen.digest.clone(),
            configuration: self.configuration.clone(),
            documents: self.chosen.documents.clone(),
            grants: self.chosen.grants.clone(),
            limits: self.chosen.limits,
            deadline: at + self.chosen.limits.deadline_seconds * 1000,
            context: open.context.clone(),
            cluster: open.identity.uid.clone(),
            user: open.identity.user.clone(),
            machine: machine(),
            enforcement: None,
        }
    }

    /// What holds the credential of a run on a live cluster. What cannot be asked is not known, and keeps no run from its work.
    async fn enforcement(&self, open: &ClusterSession) -> Option<Enforcement> {
        if !open.is_live() {
            return None;
        }
        let requests = enforcement::excess_requests();
        let may = open.ask(ReviewAccess { requests: requests.clone() }).await.ok();
        let excess_requests = may.map(|may| {
            requests
                .iter()
                .zip(may)
                .filter(|(_, may)| *may)
                .map(|(request, _)| request.to_string())
                .collect()
        });
        let account = open.identity.user.as_deref().and_then(enforcement::account);
        let wanted = account.map(|account| {
            let functions = functions(self.guest.inspection().imported());
            admission::wanted(&account, &Needs::of(&functions, &self.chosen.grants, false))
        });
        let missing_policies = match wanted {
            None => None,
            Some(policies) => {
                open.ask(CheckPolicies { policies: policies.clone() }).await.ok().map(|standing| {
                    let standing = policies.into_iter().zip(standing);
                    standing
                        .filter_map(|(policy, standing)| match standing {
                            PolicyStatus::Held => None,
                            PolicyStatus::Absent => Some(policy.name),
                            PolicyStatus::Different => {
                                Some(format!("{} as these documents make it", policy.name))
                            }
                        })
                        .collect()
                })
            }
        };
        Some(Enforcement { excess_requests, missing_policies })
    }
}

/// A run that died: its file, taken up, and what it holds.
pub struct InterruptedRun {
    /// Its header.
    pub header: Header,
    /// The file, to go on with.
    pub file: RunFile,
    /// Everything in it.
    pub entries: Vec<Entry>,
}

impl InterruptedRun {
    /// Replays the guest over the file and goes on where that ends.
    pub async fn recover(
        self,
        guest: &Guest,
        today: Grants,
        open: &ClusterSession,
        observer: Box<dyn Observer>,
    ) -> Result<FinishedRun, Failed> {
        let linked = guest
            .link(Linking::Granted(&self.header.grants))
            .map_err(|e| Failed::denied(e.to_string()))?;
        let (configuration, limits) = (self.header.configuration.to_string(), self.header.limits);
        let (underway, run) = self.take_up(today, open, observer, false)?;
        underway.play(run, &linked, Mode::Live, &configuration, limits).await
    }

    /// Gives back what it holds, and nothing else.
    pub async fn release(
        self,
        today: Grants,
        open: &ClusterSession,
        observer: Box<dyn Observer>,
    ) -> Result<FinishedRun, Failed> {
        let (underway, run) = self.take_up(today, open, observer, true)?;
        let ending = run.recorded_ending().unwrap_or_else(|| GuestExit::Died(run.recorded_step()));
        underway.finish(run, ending).await
    }

    fn take_up(
        self,
        today: Grants,
        open: &ClusterSession,
        observer: Box<dyn Observer>,
        release_only: bool,
    ) -> Result<(ActiveRun, Run), Failed> {
        let (underway, setting) = ActiveRun::new(
            open,
            &self.header,
            Some(self.file),
            Report::of(&self.entries),
            observer,
            Mode::Live,
        );
        let recovery = Recovery {
            at: open.clock().now(),
            salve: env!("CARGO_PKG_VERSION").into(),
            user: open.identity.user.clone(),
            machine: machine(),
            release_only,
            today,
        };
        let run = Run::recover(setting, self.entries, recovery)
            .map_err(|e| Failed::host(e.to_string()))?;
        Ok((underway, run))
    }
}

/// A run told again, offline.
pub struct Replayed {
    /// How the guest's part ends now.
    pub ending: GuestExit,
    /// What holds at the end now.
    pub closing: RunResult,
    /// Where it parts from its record, if it does.
    pub parts: Option<Divergence>,
}

/// Where a replay goes another way than the run did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Divergence {
    /// The entry; none where one of them is at its end already.
    pub entry: Option<u64>,
    /// What the run did.
    pub expected: String,
    /// What the replay does.
    pub got: String,
}

/// Answers the guest from the record and judges anew; with `other` grants, by those.
pub async fn replay(
    guest: &Guest,
    entries: Vec<Entry>,
    other: Option<Grants>,
) -> Result<Replayed, Failed> {
    let header = match entries.first() {
        Some(Entry::Header(header)) => header.clone(),
        Some(_) | None => {
            return Err(Failed::document("the run file does not begin with a run's header"));
        }
    };
    let linked = guest.link(Linking::Every).map_err(|e| Failed::denied(e.to_string()))?;
    let run = Run::replay(entries, other).map_err(|e| Failed::host(e.to_string()))?;
    let recorded = run.recorded_ending();
    let mut slot = Some(run);
    let configuration = header.configuration.to_string();
    let ended = match header.command.as_str() {
        "check" => linked
            .diagnose(&mut slot, &configuration, header.limits)
            .await
            .map(GuestExit::Diagnosed),
        _ => linked
            .remediate(&mut slot, &configuration, header.limits)
            .await
            .map(GuestExit::Concluded),
    };
    let run = slot.ok_or_else(|| Failed::host("the sandbox did not give the run back"))?;
    let ended = to_its_end(&run, ended);
    let (ending, parts) = match (&recorded, ended) {
        (_, Err(end @ GuestEnd::Halted(Halt::Diverged { .. }))) => {
            (end.ending(&run), divergence(&end))
        }
        // Broken off from outside: what the guest would have come to is not what the run came to.
        (Some(GuestExit::Died(_) | GuestExit::Stopped(_)), _) => {
            (recorded.clone().expect("it was looked at"), None)
        }
        (
            Some(GuestExit::Concluded(_) | GuestExit::Diagnosed(_)),
            Err(GuestEnd::Halted(Halt::RecordEnds { asked })),
        ) => {
            let divergence =
                Divergence { entry: None, expected: spelt(recorded.as_ref()), got: asked };
            (GuestExit::Died(run.step().map(str::to_owned)), Some(divergence))
        }
        (Some(recorded), Err(GuestEnd::Halted(Halt::RecordEnds { .. }))) => {
            (recorded.clone(), None)
        }
        (None, Err(GuestEnd::Halted(Halt::RecordEnds { .. }))) => {
            (GuestExit::Died(run.step().map(str::to_owned)), None)
        }
        (_, ended) => {
            let ending = ended.unwrap_or_else(|end| end.ending(&run));
            let other = recorded.as_ref().is_some_and(|recorded| *recorded != ending);
            let divergence = other.then(|| Divergence {
                entry: None,
                expected: spelt(recorded.as_ref()),
                got: spelt(Some(&ending)),
            });
            (ending, divergence)
        }
    };
    let closing = run.verdict(&ending);
    Ok(Replayed { ending, closing, parts })
}

/// A guest that ends by itself before its record does has gone another way.
fn to_its_end(run: &Run, ended: Result<GuestExit, GuestEnd>) -> Result<GuestExit, GuestEnd> {
    let early = match &ended {
        Err(GuestEnd::Halted(_)) => None,
        Ok(ending) => run.diverged_early(&spelt(Some(ending))),
        Err(end) => run.diverged_early(&end.to_string()),
    };
    early.map_or(ended, |early| Err(GuestEnd::Halted(early)))
}

fn divergence(end: &GuestEnd) -> Option<Divergence> {
    match end {
        GuestEnd::Halted(Halt::Diverged { n, expected, got }) => {
            Some(Divergence { entry: Some(*n), expected: expected.clone(), got: got.clone() })
        }
        _ => None,
    }
}

/// An ending as the file has it, for two to be compared.
fn spelt(ending: Option<&GuestExit>) -> String {
    ending
        .map_or_else(|| "no end".into(), |ending| serde_json::to_string(ending).unwrap_or_default())
}

/// Begins a run.
pub fn begin(
    open: &ClusterSession,
    header: Header,
    file: Option<RunFile>,
    observer: Box<dyn Observer>,
    mode: Mode,
) -> Result<(ActiveRun, Run), Failed> {
    let (underway, setting) = ActiveRun::new(open, &header, file, None, observer, mode);
    let run = Run::begin(setting, header).map_err(|e| Failed::host(e.to_string()))?;
    Ok((underway, run))
}

/// What stands around a run while it is under way.
pub struct ActiveRun {
    report: Arc<Mutex<Option<Report>>>,
    stop: Stop,
    signals: JoinHandle<()>,
    file: Option<PathBuf>,
}

impl ActiveRun {
    fn new(
        open: &ClusterSession,
        header: &Header,
        file: Option<RunFile>,
        told: Option<Report>,
        observer: Box<dyn Observer>,
        mode: Mode,
    ) -> (Self, RunContext) {
        let path = file.as_ref().map(|f| f.path().to_owned());
        let report = Arc::new(Mutex::new(told));
        let journal = Box::new(ReportingJournal { file, report: report.clone() });
        let stop = Stop::default();
        let signals = tokio::spawn(heed(stop.clone()));
        let backend = open.backend(&header.run, header.deadline, &stop);
        let setting = RunContext {
            backend,
            clock: open.clock(),
            journal,
            observer,
            stop: stop.clone(),
            mode,
        };
        (Self { report, stop, signals, file: path }, setting)
    }

    /// Calls the guest, and ends the run.
    async fn play(
        self,
        run: Run,
        linked: &Linked,
        mode: Mode,
        configuration: &str,
        limits: Limits,
    ) -> Result<FinishedRun, Failed> {
        if let Some(ending) = run.recorded_ending() {
            return self.finish(run, ending).await;
        }
        let mut slot = Some(run);
        let stop = self.stop.clone();
        let ended = {
            let call = async {
                match mode {
                    Mode::Diagnosis => linked
                        .diagnose(&mut slot, configuration, limits)
                        .await
                        .map(GuestExit::Diagnosed),
                    Mode::Live | Mode::Plan | Mode::Replay => linked
                        .remediate(&mut slot, configuration, limits)
                        .await
                        .map(GuestExit::Concluded),
                }
            };
            tokio::select! {
                ended = call => ended,
                // One that computes is dropped where it stands, and so is one in a call for who insists.
                () = stop.wait_between_calls() => Err(GuestEnd::Halted(Halt::Stopped)),
                () = stop.wait_insisted() => Err(GuestEnd::Halted(Halt::Stopped)),
            }
        };
        let run = slot.ok_or_else(|| Failed::host("the sandbox did not give the run back"))?;
        let ended = to_its_end(&run, ended);
        let parts = ended.as_ref().err().and_then(divergence);
        let ending = ended.unwrap_or_else(|end| end.ending(&run));
        Ok(FinishedRun { parts, ..self.finish(run, ending).await? })
    }

    /// Ends the run.
    pub async fn finish(self, run: Run, ending: GuestExit) -> Result<FinishedRun, Failed> {
        let closing = run.finish(ending).await;
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut report = report.ok_or_else(|| Failed::host("the run has no header"))?;
        // Where the file did not take the verdict, it is another one.
        if report.verdict != closing.verdict.word() {
            report.apply(&Entry::Verdict(Box::new(closing.clone())));
        }
        Ok(FinishedRun { report, closing, file: self.file.clone(), parts: None })
    }
}

impl Drop for ActiveRun {
    fn drop(&mut self) {
        self.signals.abort();
    }
}

/// Who watches a run: each step as it happens.
pub fn watcher(verbose: u8, may_ask: bool) -> Box<dyn Observer> {
    Box::new(Live::new(verbose > 0, may_ask))
}

/// Who watches a check or a plan: what is waited for, and then the answer whole.
pub fn quiet_watcher(may_ask: bool) -> Box<dyn Observer> {
    Box::new(Live::new(false, may_ask).quiet())
}

/// Looks at a component, compiles it, and asks what it is with every capability out of reach.
pub async fn load(
    component: &[u8],
    origin: &str,
    limits: Limits,
) -> Result<(Guest, Description), Failed> {
    let sandbox = Sandbox::new(runs::cache().as_deref())
        .map_err(|e| Failed::host(e.to_string()))?
        .compiling_by(Box::new(compiler::compile));
    let guest = sandbox.load(component).map_err(|e| Failed::document(format!("{origin}: {e}")))?;
    let description = guest
        .describe(limits)
        .await
        .map_err(|e| Failed::guest(format!("{origin}: describe: {e}")))?;
    Ok((guest, description))
}

/// The machine's name, for who has to find it.
pub fn machine() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Some(name).filter(|name| !name.is_empty())
}

/// The run file where there is one, and the report as it grows: what was read long ago is not kept in memory.
struct ReportingJournal {
    file: Option<RunFile>,
    report: Arc<Mutex<Option<Report>>>,
}

impl Journal for ReportingJournal {
    fn append(&mut self, entry: &Entry) -> std::io::Result<()> {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        match (entry, report.as_mut()) {
            (Entry::Header(header), _) => *report = Some(Report::begin(header)),
            (_, Some(report)) => report.apply(entry),
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
