//! One guest: loaded, linked, called. The run that it works on comes back whatever becomes of it.

use crate::bindings::RemediationPre;
use crate::bindings::salve::cluster::types;
use crate::bounds;
use crate::cache::{Cache, just_compiled};
use crate::describe::{self, Exclusive};
use crate::engine;
use crate::guest_end::{self, GuestEnd};
use crate::inspect::{Inspection, inspect};
use crate::link::{self, Linking};
use crate::load_error::{LoadError, Ungranted};
use crate::state::State;
use futures::FutureExt;
use salve_core::document::Limits;
use salve_core::report::{Conclusion, Description, Diagnosis};
use salve_core::sanitize::sanitized;
use salve_run::Run;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use wasmtime::component::Component;
use wasmtime::{Engine, Store};

/// Where guests run: the engine of this process, and the folder that keeps compiled code.
pub struct Sandbox {
    engine: Engine,
    cache: Option<Cache>,
    compiler: Box<Compiler>,
}

/// Makes native code of a component's bytes: [`compile`], or another process that calls it.
pub type Compiler = dyn Fn(&[u8]) -> Result<Vec<u8>, LoadError> + Send + Sync;

/// Compiles a component in this process. A hostile one can take time and memory without end: see [`Sandbox::compiling_by`].
///
/// # Errors
/// It is damaged, or uses what is not switched on.
pub fn compile(bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
    let engine = engine::engine().map_err(|e| LoadError::Host(format!("{e:#}")))?;
    engine.precompile_component(bytes).map_err(|e| LoadError::Damaged(sanitized(&format!("{e:#}"))))
}

impl Sandbox {
    /// Makes the engine. Compiled code is kept in `cache`; where that folder cannot be trusted, or none
    /// is given, every component is compiled anew.
    ///
    /// # Errors
    /// [`LoadError::Host`] when this machine cannot run wasm.
    pub fn new(cache: Option<&Path>) -> Result<Self, LoadError> {
        let engine = engine::engine().map_err(|e| LoadError::Host(format!("{e:#}")))?;
        let cache = cache.and_then(|folder| match Cache::open(folder) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), "compiled code is not kept: {error}");
                None
            }
        });
        Ok(Self { engine, cache, compiler: Box::new(compile) })
    }

    /// The same, which compiles by other means. What comes of them is run as native code: they have to be ours.
    pub fn compiling_by(self, compiler: Box<Compiler>) -> Self {
        Self { compiler, ..self }
    }

    /// Looks at a component, compiles it, and compares its types with the contract. None of it is run.
    ///
    /// Compiling can take seconds and blocks.
    ///
    /// # Errors
    /// Says what the component is instead, and what its author can do.
    pub fn load(&self, bytes: &[u8]) -> Result<Guest, LoadError> {
        let inspection = inspect(bytes)?;
        inspection.fits()?;
        let compile = || (self.compiler)(bytes);
        let component = match &self.cache {
            Some(cache) => cache.component(&self.engine, &inspection.digest, compile)?,
            None => just_compiled(&self.engine, &compile()?)?,
        };
        let types = |e: wasmtime::Error| LoadError::OtherTypes(sanitized(&format!("{e:#}")));
        let every = link::linker(&self.engine, &inspection, Linking::Every)
            .map_err(|e| LoadError::Host(format!("{e:#}")))?;
        RemediationPre::new(every.instantiate_pre(&component).map_err(types)?).map_err(types)?;
        let alone = describe::prepare(&self.engine, &component).map_err(types)?;
        Ok(Guest { engine: self.engine.clone(), component, inspection, alone })
    }
}

/// A component that fits the contract.
pub struct Guest {
    engine: Engine,
    component: Component,
    inspection: Inspection,
    alone: RemediationPre<Exclusive>,
}

impl Guest {
    /// What it imports and exports.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// What it says of itself, asked with every capability out of reach.
    ///
    /// # Errors
    /// When it breaks, calls anything, or says too much.
    pub async fn describe(&self, limits: Limits) -> Result<Description, GuestEnd> {
        AssertUnwindSafe(describe::describe(&self.engine, &self.alone, limits))
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| Err(broke(&*panic)))
    }

    /// Gives it the capabilities that `linking` says.
    ///
    /// # Errors
    /// Names all touch capabilities that it imports and nothing grants. Ask this before anything else.
    pub fn link(&self, linking: Linking<'_>) -> Result<Linked, Ungranted> {
        link::ungranted(&self.inspection, linking)?;
        let pre = link::linker(&self.engine, &self.inspection, linking)
            .and_then(|linker| linker.instantiate_pre(&self.component))
            .and_then(RemediationPre::new)
            .expect("what is not refused was linked once, when the component was loaded");
        Ok(Linked { engine: self.engine.clone(), pre })
    }
}

/// A guest with its capabilities, ready to be called. Each call has a store of its own.
pub struct Linked {
    engine: Engine,
    pre: RemediationPre<State>,
}

impl Linked {
    /// Asks whether it is this incident. The run's mode holds the guest to looking.
    ///
    /// # Guarantees
    /// The run is taken from `slot` and is there again however this ends: returned, trapped, out of a
    /// limit, panicked, or when this future is dropped.
    ///
    /// # Panics
    /// When no run sits in `slot`.
    pub async fn diagnose(
        &self,
        slot: &mut Option<Run>,
        config: &str,
        limits: Limits,
    ) -> Result<Diagnosis, GuestEnd> {
        let mut seated = Seated::new(&self.engine, slot, limits);
        let store = seated.store();
        let answer = caught(async {
            let guest = self.pre.instantiate_async(&mut *store).await?;
            guest.call_diagnose(store, config).await
        });
        let answer = answer.await;
        bounds::diagnosis(seated.judge(answer)?.into())
    }

    /// Lets it mend what it finds, through the door.
    ///
    /// # Guarantees
    /// As [`Linked::diagnose`]: the run is in `slot` again, with its open suspensions, for the caller to end.
    ///
    /// # Panics
    /// When no run sits in `slot`.
    pub async fn remediate(
        &self,
        slot: &mut Option<Run>,
        config: &str,
        limits: Limits,
    ) -> Result<Conclusion, GuestEnd> {
        let mut seated = Seated::new(&self.engine, slot, limits);
        let store = seated.store();
        let answer = caught(async {
            let guest = self.pre.instantiate_async(&mut *store).await?;
            guest.call_remediate(store, config).await
        });
        let answer = answer.await;
        bounds::conclusion(seated.judge(answer)?.into())
    }
}

/// A run inside a store. When this goes, the run goes back to its seat, and the guest is no more.
struct Seated<'a> {
    slot: &'a mut Option<Run>,
    store: Option<Store<State>>,
}

impl<'a> Seated<'a> {
    fn new(engine: &Engine, slot: &'a mut Option<Run>, limits: Limits) -> Self {
        let run = slot.take().expect("the caller seats a run");
        let store =
            engine::store(engine, State::new(run, limits), limits, |state| &mut state.ceilings);
        Self { slot, store: Some(store) }
    }

    fn store(&mut self) -> &mut Store<State> {
        self.store.as_mut().expect("the store goes when this is dropped")
    }

    fn judge<T>(&mut self, answer: Answered<T>) -> Result<T, GuestEnd> {
        match answer {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(error))) => Err(GuestEnd::Local(error.into())),
            Ok(Err(error)) => {
                let state = self.store().data();
                Err(guest_end::of_error(error, &state.ceilings, state.last_note.as_deref()))
            }
            Err(panic) => Err(broke(&*panic)),
        }
    }
}

impl Drop for Seated<'_> {
    fn drop(&mut self) {
        // mutant trap-loses-run: *self.slot = self.store.take().map(|store| store.into_data().run)
        //     ~> drop(self.store.take())
        *self.slot = self.store.take().map(|store| store.into_data().run);
    }
}

/// What a call came to: a panic of ours, a trap, the guest's own error, or an answer.
type Answered<T> = Result<wasmtime::Result<Result<T, types::Error>>, Box<dyn Any + Send>>;

async fn caught<T>(
    call: impl Future<Output = wasmtime::Result<Result<T, types::Error>>>,
) -> Answered<T> {
    AssertUnwindSafe(call).catch_unwind().await
}

fn broke(panic: &(dyn Any + Send)) -> GuestEnd {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    GuestEnd::Host(format!("it panicked: {}", text.unwrap_or_else(|| "without a word".into())))
}
