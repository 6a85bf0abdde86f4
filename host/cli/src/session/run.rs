//! Executes a run, from its header to its verdict.

use super::planner::SecondCall;
use super::replay::{Divergence, check_journal_used, divergence, returned_run};
use super::{Frontend, PreparedRun};
use crate::cluster::ClusterSession;
use crate::output::{CommandError, transcript};
use crate::plans::Plan;
use crate::{components, runs};
use salve_core::capability::Effect;
use salve_core::document::Limits;
use salve_core::journal::{Entry, GuestExit, Header, Recorded, RunResult};
use salve_core::report::{Report, ReportBuilder, Verdict};
use salve_run::{Halt, Journal, Mode, Observer, Run, RunContext, RunFile, Stop};
use salve_sandbox::{GuestError, Linked, Linking};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;

/// A run that has ended.
pub struct FinishedRun {
    pub report: Report,
    pub result: RunResult,
    /// The path of the run file, if there is one.
    pub file: Option<PathBuf>,
    /// Where the guest of a recovered run diverged from its journal, if it did.
    pub divergence: Option<Divergence>,
}

impl PreparedRun {
    /// Executes a run. With a folder `runs`, the run file and the component are written there.
    pub async fn run(
        &self,
        mode: Mode,
        session: &ClusterSession,
        runs: Option<&Path>,
        frontend: Frontend,
    ) -> Result<FinishedRun, CommandError> {
        let id = runs::new_id()?;
        let file = match runs {
            Some(folder) => {
                components::save(folder, &self.resolved.digest, &self.resolved.component)?;
                let name = runs::file_name(session.clock().now(), &session.context, &id);
                Some(create(folder, &name)?)
            }
            None => None,
        };
        self.run_on(mode, session, &id, file, frontend).await
    }

    /// Makes a plan, has it displayed and confirmed, and binds the run to exactly that plan. The
    /// plan is not saved. The inner error is a plan that has nothing to confirm.
    ///
    /// # Errors
    /// The plan failed, or `confirm` did. Nothing was changed.
    pub async fn confirmed(
        self,
        session: &ClusterSession,
        mut frontend: Frontend,
        confirm: impl AsyncFnOnce(&FinishedRun) -> Result<(), CommandError>,
    ) -> Result<Result<Self, FinishedRun>, CommandError> {
        let entries = KeptEntries::default();
        frontend.observers.push(Box::new(entries.clone()));
        let plan = self.run(Mode::Plan, session, None, frontend).await?;
        match plan.result.verdict {
            Verdict::Planned => {}
            Verdict::Fixed
            | Verdict::ResolvedElsewhere
            | Verdict::NothingToDo
            | Verdict::DifferentProblem
            | Verdict::NotFixed
            | Verdict::Unverified
            | Verdict::Inconclusive
            | Verdict::Denied
            | Verdict::NeedsApproval
            | Verdict::StalePlan
            | Verdict::Failed(_)
            | Verdict::ActionRequired
            | Verdict::Restored => return Ok(Err(plan)),
        }
        confirm(&plan).await?;
        // mutant displayed-plan-not-binding: self.bound_to(Plan::displayed(entries.take())?) ~>
        //     Plan::displayed(entries.take()).map(|_| self)
        self.bound_to(Plan::displayed(entries.take())?).map(Ok)
    }

    /// Executes a run that is recorded in `file`.
    pub async fn run_on(
        &self,
        mode: Mode,
        session: &ClusterSession,
        id: &str,
        file: Option<RunFile>,
        frontend: Frontend,
    ) -> Result<FinishedRun, CommandError> {
        let header = self.header(mode, session, id).await;
        let (active, mut run) = start_run(session, header.clone(), file, frontend, mode)?;
        let linking = match mode {
            Mode::Live | Mode::Plan => Linking::Granted(&self.resolved.grants),
            Mode::Diagnosis | Mode::Replay => Linking::Every,
        };
        let linked = self.guest.link(linking).map_err(|e| CommandError::denied(e.to_string()))?;
        let configuration = self.configuration.to_string();
        let limits = self.resolved.limits;
        if let (Mode::Live, Some(plan)) = (mode, &self.plan) {
            let reusable = plan.reusable_entries(session.clock().now()).unwrap_or_else(|reason| {
                transcript::line(&reason);
                &[]
            });
            run = run
                .approved(plan.approval(), reusable)
                .map_err(|e| CommandError::host(e.to_string()))?;
            let (linked, configuration) = (linked.clone(), configuration.clone());
            let planner = SecondCall { linked, configuration, limits };
            run = run.with_planner(Arc::new(planner), header, vec![]);
        }
        active.execute(run, &linked, mode, &configuration, limits).await
    }
}

/// Creates a run file.
pub fn create(folder: &Path, name: &str) -> Result<RunFile, CommandError> {
    RunFile::create(folder, name).map_err(|e| {
        CommandError::host(format!("failed to create the run file in {}: {e}", folder.display()))
    })
}

/// Starts a run: writes its header and handles signals until it is finished.
pub fn start_run(
    session: &ClusterSession,
    header: Header,
    file: Option<RunFile>,
    frontend: Frontend,
    mode: Mode,
) -> Result<(ActiveRun, Run), CommandError> {
    let report = ReportBuilder::new(&header);
    let (active, context) = ActiveRun::new(session, &header, report, file, frontend, mode);
    let run = Run::begin(context, header).map_err(|e| CommandError::host(e.to_string()))?;
    Ok((active, run))
}

/// The surroundings of a run in progress: its report so far, its signal handler, and its file.
pub struct ActiveRun {
    report: SharedReport,
    stop: Stop,
    signals: JoinHandle<()>,
    file: Option<PathBuf>,
}

impl ActiveRun {
    /// Creates the surroundings of a run whose report so far is `report`.
    pub(super) fn new(
        session: &ClusterSession,
        header: &Header,
        report: ReportBuilder,
        file: Option<RunFile>,
        frontend: Frontend,
        mode: Mode,
    ) -> (Self, RunContext) {
        let path = file.as_ref().map(|file| file.path().to_owned());
        let journal: Box<dyn Journal> = match file {
            Some(file) => Box::new(file),
            None => Box::new(NoJournal),
        };
        let report = SharedReport(Arc::new(Mutex::new(report)));
        let mut observers: Vec<Box<dyn Observer>> = vec![Box::new(report.clone())];
        observers.extend(frontend.observers);
        let stop = frontend.stop;
        let signals = tokio::spawn(handle_signals(stop.clone()));
        let context = RunContext {
            backend: session.backend(&header.run, header.deadline, &stop),
            clock: session.clock(),
            journal,
            observers,
            prompt: frontend.prompt,
            stop: stop.clone(),
            mode,
        };
        (Self { report, stop, signals, file: path }, context)
    }

    /// Calls the guest and finishes the run.
    pub(super) async fn execute(
        self,
        run: Run,
        linked: &Linked,
        mode: Mode,
        configuration: &str,
        limits: Limits,
    ) -> Result<FinishedRun, CommandError> {
        if let Some(exit) = run.recorded_exit() {
            return self.finish(run, exit).await;
        }
        let mut slot = Some(run);
        let stop = self.stop.clone();
        let outcome = {
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
                outcome = call => outcome,
                // A guest outside a call is dropped at once, one in a call at the second signal.
                () = stop.wait_between_calls() => Err(GuestError::Halted(Halt::Stopped)),
                () = stop.wait_insisted() => Err(GuestError::Halted(Halt::Stopped)),
            }
        };
        let run = returned_run(slot)?;
        let outcome = check_journal_used(&run, outcome);
        let divergence = outcome.as_ref().err().and_then(divergence);
        let exit = outcome.unwrap_or_else(|error| error.to_guest_exit(&run));
        Ok(FinishedRun { divergence, ..self.finish(run, exit).await? })
    }

    /// Finishes the run: releases what it changed temporarily and determines the verdict.
    pub async fn finish(self, run: Run, exit: GuestExit) -> Result<FinishedRun, CommandError> {
        // Its future is large, and every caller's future would contain it.
        let result = Box::pin(run.finish(exit)).await;
        let report = self.report.get();
        Ok(FinishedRun { report, result, file: self.file.clone(), divergence: None })
    }
}

impl Drop for ActiveRun {
    fn drop(&mut self) {
        self.signals.abort();
    }
}

/// The report of a run in progress, which an observer of the run updates. Clones are the same
/// report.
#[derive(Clone)]
struct SharedReport(Arc<Mutex<ReportBuilder>>);

impl SharedReport {
    fn get(&self) -> Report {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).report().clone()
    }
}

impl Observer for SharedReport {
    fn on_start(&mut self, _: &Effect) {}

    fn on_entry(&mut self, recorded: Recorded<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(recorded);
    }
}

/// The entries of a plan, kept by an observer. Clones are the same entries.
#[derive(Clone, Default)]
struct KeptEntries(Arc<Mutex<Vec<Entry>>>);

impl KeptEntries {
    fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for KeptEntries {
    fn on_start(&mut self, _: &Effect) {}

    fn on_entry(&mut self, recorded: Recorded<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(recorded.entry.clone());
    }
}

/// The journal of a run without a file, which needs no recovery.
struct NoJournal;

impl Journal for NoJournal {
    fn append(&mut self, _: &Entry) -> io::Result<()> {
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Handles SIGINT, SIGTERM, and SIGHUP: the first stops at the next safe point, the second at once
/// after releasing, the third without releasing.
async fn handle_signals(stop: Stop) {
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
        let message = match stop.level() {
            1 => "stopping at the next safe point (repeat to stop at once)",
            2 => "stopping at once, after releasing what the run changed (repeat to skip that)",
            _ => "exiting: `salve doctor` lists what is still in effect",
        };
        transcript::important(&format!("\n{message}\n"));
    }
}
