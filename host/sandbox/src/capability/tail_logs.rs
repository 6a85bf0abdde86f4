//! `tail-logs`: a cursor is a query and a position; each effect contains both.

use super::{convert_all, into_wit};
use crate::bindings::salve::cluster::{tail_logs as wit, types};
use crate::state::State;
use salve_core::capability::tail_logs as core;
use wasmtime::component::Resource;

/// The state behind a guest's cursor handle.
pub struct Cursor {
    query: core::Query,
    after: Vec<core::Position>,
}

impl wit::Host for State {
    async fn open(
        &mut self,
        query: wit::Query,
    ) -> wasmtime::Result<Result<Resource<Cursor>, types::Error>> {
        // Opening is not an effect, so the run does not validate the query: core does it here.
        let query = core::Query::from(query);
        if let Err(error) = query.check().and_then(|()| self.reserve_handles(1)) {
            return Ok(Err(error.into()));
        }
        Ok(Ok(self.add_cursor(Cursor { query, after: vec![] })?))
    }
}

impl wit::HostCursor for State {
    async fn next(
        &mut self,
        handle: Resource<Cursor>,
    ) -> wasmtime::Result<Result<wit::Page, types::Error>> {
        let cursor = self.cursor(&handle)?;
        let call = core::NextPage { query: cursor.query.clone(), after: cursor.after.clone() };
        let answer = self.call(call).await?;
        if let Ok(page) = &answer {
            self.cursor(&handle)?.after.clone_from(&page.position);
        }
        Ok(into_wit(answer))
    }

    async fn drop(&mut self, handle: Resource<Cursor>) -> wasmtime::Result<()> {
        self.drop_cursor(handle);
        Ok(())
    }
}

impl From<wit::Query> for core::Query {
    fn from(query: wit::Query) -> Self {
        Self {
            workload: query.workload.into(),
            container: query.container,
            since: query.since,
            tail_lines: query.tail_lines,
            limit_bytes: query.limit_bytes,
            pattern: query.pattern,
        }
    }
}

impl From<wit::Workload> for core::Workload {
    fn from(workload: wit::Workload) -> Self {
        let kind = match workload.kind {
            wit::WorkloadKind::Deployment => core::WorkloadKind::Deployment,
            wit::WorkloadKind::DaemonSet => core::WorkloadKind::DaemonSet,
            wit::WorkloadKind::StatefulSet => core::WorkloadKind::StatefulSet,
            wit::WorkloadKind::Job => core::WorkloadKind::Job,
            wit::WorkloadKind::Pod => core::WorkloadKind::Pod,
        };
        Self { kind, object: workload.object.into() }
    }
}

impl From<core::Page> for wit::Page {
    fn from(page: core::Page) -> Self {
        Self {
            lines: convert_all(page.lines),
            pods: page.pods,
            unreadable: page.unreadable,
            skipped: page.skipped,
            lines_read: page.lines_read,
            more: page.more,
            newest: page.newest,
        }
    }
}

impl From<core::Line> for wit::Line {
    fn from(line: core::Line) -> Self {
        Self { pod: line.pod, time: line.time, text: line.text }
    }
}
