//! Recovers a run whose process died.

use super::planner::SecondCall;
use super::run::ActiveRun;
use super::{FinishedRun, Frontend, machine};
use crate::cluster::ClusterSession;
use crate::output::CommandError;
use salve_core::grants::Grants;
use salve_core::journal::{Entry, GuestExit, Header, Recovery};
use salve_core::report::ReportBuilder;
use salve_run::{Mode, Run, RunFile};
use salve_sandbox::{Guest, Linking};
use std::sync::Arc;

/// A run whose process died, opened to be recovered.
pub struct InterruptedRun {
    pub header: Header,
    /// The run file, to which the recovery appends.
    pub file: RunFile,
    /// All entries of the run file.
    pub entries: Vec<Entry>,
}

impl InterruptedRun {
    /// Replays the guest from the journal and continues where the journal ends. `current` are the
    /// grants that apply now, in addition to those of the run.
    pub async fn recover(
        self,
        guest: &Guest,
        current: Grants,
        session: &ClusterSession,
        frontend: Frontend,
    ) -> Result<FinishedRun, CommandError> {
        let linked = guest
            .link(Linking::Granted(&self.header.grants))
            .map_err(|e| CommandError::denied(e.to_string()))?;
        let (configuration, limits) = (self.header.configuration.to_string(), self.header.limits);
        let (header, earlier) = (self.header.clone(), self.entries.clone());
        let (active, run) = self.resume(current, session, frontend, false)?;
        let planner =
            SecondCall { linked: linked.clone(), configuration: configuration.clone(), limits };
        let run = run.with_planner(Arc::new(planner), header, earlier);
        active.execute(run, &linked, Mode::Live, &configuration, limits).await
    }

    /// Releases what the run changed temporarily, without running the guest.
    pub async fn release(
        self,
        current: Grants,
        session: &ClusterSession,
        frontend: Frontend,
    ) -> Result<FinishedRun, CommandError> {
        let (active, run) = self.resume(current, session, frontend, true)?;
        let exit = run.recorded_exit().unwrap_or_else(|| GuestExit::Died(run.recorded_step()));
        active.finish(run, exit).await
    }

    fn resume(
        self,
        current: Grants,
        session: &ClusterSession,
        frontend: Frontend,
        release_only: bool,
    ) -> Result<(ActiveRun, Run), CommandError> {
        let report =
            ReportBuilder::of(&self.entries).unwrap_or_else(|| ReportBuilder::new(&self.header));
        let (active, context) =
            ActiveRun::new(session, &self.header, report, Some(self.file), frontend, Mode::Live);
        let recovery = Recovery {
            at: session.clock().now(),
            salve: env!("CARGO_PKG_VERSION").into(),
            user: session.identity.user.clone(),
            machine: machine(),
            release_only,
            current,
        };
        let run = Run::recover(context, self.entries, recovery)
            .map_err(|e| CommandError::host(e.to_string()))?;
        Ok((active, run))
    }
}
