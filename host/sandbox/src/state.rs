//! What stands behind a guest's calls: its run, its handles, its ceilings. One store, one state.

use crate::capabilities::Cursor;
use crate::engine::{Ceilings, HANDLE_CEILING};
use crate::guest_end::{Broken, Misuse};
use salve_core::document::Limits;
use salve_core::effect::TypedCall;
use salve_core::outcome::Error;
use salve_run::Run;
use wasmtime::component::{Resource, ResourceTable};

/// The state of one guest's store.
pub(crate) struct State {
    pub(crate) run: Run,
    pub(crate) ceilings: Ceilings,
    pub(crate) last_note: Option<String>,
    cursors: ResourceTable,
    handles: u32,
}

impl State {
    pub(crate) fn new(run: Run, limits: Limits) -> Self {
        Self {
            run,
            ceilings: Ceilings::new(limits),
            last_note: None,
            cursors: ResourceTable::new(),
            handles: 0,
        }
    }

    /// Through the door. What the guest said before is no last word any more.
    pub(crate) async fn ask<A: TypedCall>(
        &mut self,
        ask: A,
    ) -> wasmtime::Result<Result<A::Answer, Error>> {
        self.last_note = None;
        Ok(self.run.call(ask).await?)
    }

    /// The same for a function that has no error to answer.
    pub(crate) async fn ask_infallible<A: TypedCall>(
        &mut self,
        call: &'static str,
        ask: A,
    ) -> wasmtime::Result<A::Answer> {
        Ok(self.ask(ask).await?.map_err(|error| Misuse { call, error })?)
    }

    /// Takes places for so many more handles.
    pub(crate) fn reserve_handles(&mut self, wanted: usize) -> Result<(), Error> {
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        if wanted > HANDLE_CEILING - self.handles {
            return Err(Error::Invalid(format!(
                "{HANDLE_CEILING} cursors and suspensions may be open, and {} are: drop some first",
                self.handles
            )));
        }
        self.handles += wanted;
        Ok(())
    }

    pub(crate) fn release_handles(&mut self, freed: usize) {
        self.handles = self.handles.saturating_sub(u32::try_from(freed).unwrap_or(u32::MAX));
    }

    pub(crate) fn keep_cursor(&mut self, cursor: Cursor) -> wasmtime::Result<Resource<Cursor>> {
        Ok(self
            .cursors
            .push(cursor)
            .map_err(|e| Broken(format!("a cursor could not be kept: {e}")))?)
    }

    pub(crate) fn cursor(&mut self, handle: &Resource<Cursor>) -> wasmtime::Result<&mut Cursor> {
        Ok(self.cursors.get_mut(handle).map_err(|e| Broken(format!("a cursor is lost: {e}")))?)
    }

    /// Forgets a cursor; an unknown one is none to forget.
    pub(crate) fn drop_cursor(&mut self, handle: Resource<Cursor>) {
        if self.cursors.delete(handle).is_ok() {
            self.release_handles(1);
        }
    }
}
