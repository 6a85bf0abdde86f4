//! Calls `describe` without any capability: each call of the guest ends it.
//!
//! Only `run.note` is accepted, and not passed on, because a panic hook notes its message there.

use crate::bindings::RemediationPre;
use crate::bindings::salve::cluster::{run, types};
use crate::bounds;
use crate::engine::{self, Ceilings};
use crate::guest_error::{self, GuestError};
use salve_core::document::Limits;
use salve_core::report::Description;
use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, Linker};

/// The state of a store in which only `describe` is called.
pub(crate) struct Isolated {
    ceilings: Ceilings,
    last_note: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("it called {0} in `describe`, where no capability is available")]
struct Unavailable(&'static str);

impl types::Host for Isolated {}

impl run::Host for Isolated {
    async fn now(&mut self) -> wasmtime::Result<u64> {
        Err(Unavailable("run.now").into())
    }
    async fn sleep(&mut self, _milliseconds: u64) -> wasmtime::Result<()> {
        Err(Unavailable("run.sleep").into())
    }
    async fn step(&mut self, _name: String, _title: String) -> wasmtime::Result<()> {
        Err(Unavailable("run.step").into())
    }
    async fn note(&mut self, _level: run::Level, text: String) -> wasmtime::Result<()> {
        self.last_note = Some(bounds::truncate_note(&text));
        Ok(())
    }
    async fn ask(&mut self, _question: String) -> wasmtime::Result<Result<bool, types::Error>> {
        Err(Unavailable("run.ask").into())
    }
    async fn deadline(&mut self) -> wasmtime::Result<u64> {
        Err(Unavailable("run.deadline").into())
    }
    async fn observed(
        &mut self,
        _problem: String,
        _entry: u64,
    ) -> wasmtime::Result<Result<(), types::Error>> {
        Err(Unavailable("run.observed").into())
    }
    async fn last_entry(&mut self) -> wasmtime::Result<u64> {
        Err(Unavailable("run.last-entry").into())
    }
}

/// Links a component so that every call except `run.note` traps.
pub(crate) fn prepare(
    engine: &Engine,
    component: &Component,
) -> wasmtime::Result<RemediationPre<Isolated>> {
    let mut linker = Linker::new(engine);
    run::add_to_linker::<_, HasSelf<Isolated>>(&mut linker, |state| state)?;
    linker.define_unknown_imports_as_traps(component)?;
    RemediationPre::new(linker.instantiate_pre(component)?)
}

/// Calls `describe`.
pub(crate) async fn describe(
    engine: &Engine,
    pre: &RemediationPre<Isolated>,
    limits: Limits,
) -> Result<Description, GuestError> {
    let state = Isolated { ceilings: Ceilings::new(limits), last_note: None };
    let mut store = engine::store(engine, state, limits, |state| &mut state.ceilings);
    let answer = async {
        let guest = pre.instantiate_async(&mut store).await?;
        guest.call_describe(&mut store).await
    }
    .await;
    match answer {
        Ok(description) => bounds::description(description.into()),
        Err(error) => Err(guest_error::classify(
            error,
            &store.data().ceilings,
            store.data().last_note.as_deref(),
        )),
    }
}
