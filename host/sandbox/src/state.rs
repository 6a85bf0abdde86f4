//! The state of a guest's store: its run, its handles, and its ceilings.

use crate::capability::tail_logs::Cursor;
use crate::engine::{Ceilings, HANDLE_CEILING};
use crate::guest_error::{InternalError, InvalidCall};
use salve_core::capability::TypedCall;
use salve_core::document::Limits;
use salve_core::outcome::Error;
use salve_run::Run;
use wasmtime::component::{Resource, ResourceTable};

/// The state of one guest's store.
pub(crate) struct State {
    pub(crate) run: Run,
    pub(crate) ceilings: Ceilings,
    /// The text of `run.note` if that was the latest call: a panic hook notes its message there.
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

    /// Passes a call to the run. Clears the last note, because it no longer precedes a trap.
    pub(crate) async fn call<A: TypedCall>(
        &mut self,
        call: A,
    ) -> wasmtime::Result<Result<A::Answer, Error>> {
        self.last_note = None;
        Ok(self.run.call(call).await?)
    }

    /// Passes a call to the run for a function that cannot return an error: an error ends the
    /// guest.
    pub(crate) async fn call_infallible<A: TypedCall>(
        &mut self,
        name: &'static str,
        call: A,
    ) -> wasmtime::Result<A::Answer> {
        Ok(self.call(call).await?.map_err(|error| InvalidCall { call: name, error })?)
    }

    /// Reserves `wanted` handles.
    ///
    /// # Errors
    /// `invalid` if the guest would have more than [`HANDLE_CEILING`] handles open.
    pub(crate) fn reserve_handles(&mut self, wanted: usize) -> Result<(), Error> {
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        if wanted > HANDLE_CEILING - self.handles {
            return Err(Error::Invalid(format!(
                "at most {HANDLE_CEILING} cursors and reversals may be open, and {} are: drop some \
                 first",
                self.handles
            )));
        }
        self.handles += wanted;
        Ok(())
    }

    pub(crate) fn release_handles(&mut self, freed: usize) {
        self.handles = self.handles.saturating_sub(u32::try_from(freed).unwrap_or(u32::MAX));
    }

    pub(crate) fn add_cursor(&mut self, cursor: Cursor) -> wasmtime::Result<Resource<Cursor>> {
        Ok(self
            .cursors
            .push(cursor)
            .map_err(|e| InternalError(format!("failed to store a cursor: {e}")))?)
    }

    pub(crate) fn cursor(&mut self, handle: &Resource<Cursor>) -> wasmtime::Result<&mut Cursor> {
        Ok(self
            .cursors
            .get_mut(handle)
            .map_err(|e| InternalError(format!("failed to find a cursor: {e}")))?)
    }

    /// Drops a cursor. Ignores an unknown one.
    pub(crate) fn drop_cursor(&mut self, handle: Resource<Cursor>) {
        if self.cursors.delete(handle).is_ok() {
            self.release_handles(1);
        }
    }
}
