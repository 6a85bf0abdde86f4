//! One guest: loaded, linked, and called. The caller always gets the run back, however a call ends.

use crate::bindings::RemediationPre;
use crate::bindings::salve::cluster::types;
use crate::bounds;
use crate::cache::{Cache, from_compiler};
use crate::describe::{self, Isolated};
use crate::engine;
use crate::guest_error::{self, GuestError};
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

/// Runs guests: an engine, a compiler, and a cache of compiled code.
pub struct Sandbox {
    engine: Engine,
    cache: Option<Cache>,
    compiler: Box<Compiler>,
}

/// Compiles a component to native code: [`compile`], or a call of it in another process.
pub type Compiler = dyn Fn(&[u8]) -> Result<Vec<u8>, LoadError> + Send + Sync;

/// Compiles a component in this process.
///
/// A hostile component can use unlimited time and memory: see [`Sandbox::with_compiler`].
///
/// # Errors
/// The component is damaged, or uses a WebAssembly feature that is not enabled.
pub fn compile(bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
    let engine = engine::engine().map_err(|e| LoadError::Host(format!("{e:#}")))?;
    engine.precompile_component(bytes).map_err(|e| LoadError::Damaged(sanitized(&format!("{e:#}"))))
}

impl Sandbox {
    /// Creates the engine, with a cache of compiled code in the folder `cache`. Without a folder,
    /// or if other users can write to it, every load compiles the component.
    ///
    /// # Errors
    /// [`LoadError::Host`] if this machine cannot run WebAssembly.
    pub fn new(cache: Option<&Path>) -> Result<Self, LoadError> {
        let engine = engine::engine().map_err(|e| LoadError::Host(format!("{e:#}")))?;
        let cache = cache.and_then(|folder| match Cache::open(folder) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), "compiled code is not cached: {error}");
                None
            }
        });
        Ok(Self { engine, cache, compiler: Box::new(compile) })
    }

    /// Replaces the compiler. Its output is executed as native code, so it must be trusted.
    pub fn with_compiler(self, compiler: Box<Compiler>) -> Self {
        Self { compiler, ..self }
    }

    /// Inspects and compiles a component, and compares its types with the contract. Runs none of
    /// it.
    ///
    /// Blocks while it compiles, which can take seconds.
    ///
    /// # Errors
    /// The component is not a remediation that can run here.
    pub fn load(&self, bytes: &[u8]) -> Result<Guest, LoadError> {
        let inspection = inspect(bytes)?;
        inspection.check()?;
        let compile = || (self.compiler)(bytes);
        let component = match &self.cache {
            Some(cache) => cache.component(&self.engine, &inspection.digest, compile)?,
            None => from_compiler(&self.engine, &compile()?)?,
        };
        let types = |e: wasmtime::Error| LoadError::OtherTypes(sanitized(&format!("{e:#}")));
        let linker = link::linker(&self.engine, &inspection, Linking::Every)
            .map_err(|e| LoadError::Host(format!("{e:#}")))?;
        RemediationPre::new(linker.instantiate_pre(&component).map_err(types)?).map_err(types)?;
        let isolated = describe::prepare(&self.engine, &component).map_err(types)?;
        Ok(Guest { engine: self.engine.clone(), component, inspection, isolated })
    }
}

/// A component that matches the contract.
pub struct Guest {
    engine: Engine,
    component: Component,
    inspection: Inspection,
    isolated: RemediationPre<Isolated>,
}

impl Guest {
    /// Returns what the component imports and exports.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// Calls `describe`, without any capability.
    ///
    /// # Errors
    /// The guest crashes, calls a capability, exceeds a limit, or returns too much.
    pub async fn describe(&self, limits: Limits) -> Result<Description, GuestError> {
        AssertUnwindSafe(describe::describe(&self.engine, &self.isolated, limits))
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| Err(panicked(&*panic)))
    }

    /// Links the guest with the capabilities of `linking`. Call this before anything is changed.
    ///
    /// # Errors
    /// Lists all write capabilities that the guest imports and no document grants.
    pub fn link(&self, linking: Linking<'_>) -> Result<Linked, Ungranted> {
        link::check_granted(&self.inspection, linking)?;
        let pre = link::linker(&self.engine, &self.inspection, linking)
            .and_then(|linker| linker.instantiate_pre(&self.component))
            .and_then(RemediationPre::new)
            .expect("loading the component has already linked it");
        Ok(Linked { engine: self.engine.clone(), pre })
    }
}

/// A guest with its capabilities, ready to be called. Each call gets a new store.
#[derive(Clone)]
pub struct Linked {
    engine: Engine,
    pre: RemediationPre<State>,
}

impl Linked {
    /// Calls `diagnose`. The run's mode must deny writes.
    ///
    /// # Guarantees
    /// The run is taken from `slot` and put back however this ends: the guest returns, traps, or
    /// exceeds a limit, the host panics, or this future is dropped.
    ///
    /// # Errors
    /// See [`GuestError`].
    ///
    /// # Panics
    /// If `slot` is empty.
    pub async fn diagnose(
        &self,
        slot: &mut Option<Run>,
        config: &str,
        limits: Limits,
    ) -> Result<Diagnosis, GuestError> {
        let mut guard = StoreGuard::new(&self.engine, slot, limits);
        let store = guard.store();
        let returned = catch_panics(async {
            let guest = self.pre.instantiate_async(&mut *store).await?;
            guest.call_diagnose(store, config).await
        })
        .await;
        bounds::diagnosis(guard.interpret(returned)?.into())
    }

    /// Calls `remediate`.
    ///
    /// # Guarantees
    /// As for [`Linked::diagnose`]. The run keeps its open reversals, which the caller must
    /// perform by finishing the run.
    ///
    /// # Errors
    /// See [`GuestError`].
    ///
    /// # Panics
    /// If `slot` is empty.
    pub async fn remediate(
        &self,
        slot: &mut Option<Run>,
        config: &str,
        limits: Limits,
    ) -> Result<Conclusion, GuestError> {
        let mut guard = StoreGuard::new(&self.engine, slot, limits);
        let store = guard.store();
        let returned = catch_panics(async {
            let guest = self.pre.instantiate_async(&mut *store).await?;
            guest.call_remediate(store, config).await
        })
        .await;
        bounds::conclusion(guard.interpret(returned)?.into())
    }
}

/// A store that owns the run. Dropping it puts the run back into its slot.
struct StoreGuard<'a> {
    slot: &'a mut Option<Run>,
    store: Option<Store<State>>,
}

impl<'a> StoreGuard<'a> {
    fn new(engine: &Engine, slot: &'a mut Option<Run>, limits: Limits) -> Self {
        let run = slot.take().expect("the slot has a run");
        let store =
            engine::store(engine, State::new(run, limits), limits, |state| &mut state.ceilings);
        Self { slot, store: Some(store) }
    }

    fn store(&mut self) -> &mut Store<State> {
        self.store.as_mut().expect("the store exists until this is dropped")
    }

    fn interpret<T>(&mut self, returned: CallResult<T>) -> Result<T, GuestError> {
        match returned {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(GuestError::Returned(error.into())),
            Ok(Err(error)) => {
                let state = self.store().data();
                Err(guest_error::classify(error, &state.ceilings, state.last_note.as_deref()))
            }
            Err(panic) => Err(panicked(&*panic)),
        }
    }
}

impl Drop for StoreGuard<'_> {
    fn drop(&mut self) {
        // mutant trap-loses-run: *self.slot = self.store.take().map(|store| store.into_data().run)
        //     ~> drop(self.store.take())
        *self.slot = self.store.take().map(|store| store.into_data().run);
    }
}

/// The result of a call: a panic of the host, a trap, an error that the guest returned, or a value.
type CallResult<T> = Result<wasmtime::Result<Result<T, types::Error>>, Box<dyn Any + Send>>;

async fn catch_panics<T>(
    call: impl Future<Output = wasmtime::Result<Result<T, types::Error>>>,
) -> CallResult<T> {
    AssertUnwindSafe(call).catch_unwind().await
}

fn panicked(panic: &(dyn Any + Send)) -> GuestError {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    GuestError::Host(format!("panicked: {}", text.unwrap_or_else(|| "no message".into())))
}
