//! `describe` with every capability out of reach: nothing behind it, each call ends the guest.
//!
//! Only `run.note` is heard and not passed on, because a panic's words come by it.

use crate::bindings::RemediationPre;
use crate::bindings::salve::cluster::{run, types};
use crate::bounds;
use crate::engine::{self, Ceilings};
use crate::guest_end::{self, GuestEnd};
use salve_core::document::Limits;
use salve_core::report::Description;
use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, Linker};

/// A guest that is asked what it is.
pub(crate) struct Exclusive {
    ceilings: Ceilings,
    last_note: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("it called {0} in `describe`, where nothing can be called")]
struct OutOfReach(&'static str);

impl types::Host for Exclusive {}

impl run::Host for Exclusive {
    async fn now(&mut self) -> wasmtime::Result<u64> {
        Err(OutOfReach("run.now").into())
    }
    async fn sleep(&mut self, _milliseconds: u64) -> wasmtime::Result<()> {
        Err(OutOfReach("run.sleep").into())
    }
    async fn step(&mut self, _name: String, _title: String) -> wasmtime::Result<()> {
        Err(OutOfReach("run.step").into())
    }
    async fn note(&mut self, _level: run::Level, text: String) -> wasmtime::Result<()> {
        self.last_note = Some(bounds::last_words(&text));
        Ok(())
    }
    async fn ask(&mut self, _question: String) -> wasmtime::Result<Result<bool, types::Error>> {
        Err(OutOfReach("run.ask").into())
    }
    async fn deadline(&mut self) -> wasmtime::Result<u64> {
        Err(OutOfReach("run.deadline").into())
    }
    async fn last_entry(&mut self) -> wasmtime::Result<u64> {
        Err(OutOfReach("run.last-entry").into())
    }
}

pub(crate) fn prepare(
    engine: &Engine,
    component: &Component,
) -> wasmtime::Result<RemediationPre<Exclusive>> {
    let mut linker = Linker::new(engine);
    run::add_to_linker::<_, HasSelf<Exclusive>>(&mut linker, |alone| alone)?;
    linker.define_unknown_imports_as_traps(component)?;
    RemediationPre::new(linker.instantiate_pre(component)?)
}

pub(crate) async fn describe(
    engine: &Engine,
    pre: &RemediationPre<Exclusive>,
    limits: Limits,
) -> Result<Description, GuestEnd> {
    let alone = Exclusive { ceilings: Ceilings::new(limits), last_note: None };
    let mut store = engine::store(engine, alone, limits, |alone| &mut alone.ceilings);
    let answer = async {
        let guest = pre.instantiate_async(&mut store).await?;
        guest.call_describe(&mut store).await
    }
    .await;
    match answer {
        Ok(description) => bounds::description(description.into()),
        Err(error) => Err(guest_end::of_error(
            error,
            &store.data().ceilings,
            store.data().last_note.as_deref(),
        )),
    }
}
