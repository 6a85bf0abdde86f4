//! The engine and its ceilings. Everything that a guest could observe is fixed here, so that a run
//! replays identically.
//!
//! Execution is metered by fuel alone. Fuel is deterministic, and it yields, so that a deadline or
//! Ctrl-C also ends a loop.

use salve_core::document::Limits;
use std::num::NonZeroUsize;
use wasmtime::{Config, Engine, ResourceLimiter, Store, WasmBacktraceDetails};

/// Maximum bytes that a guest may pass in one call, or return.
pub const CALL_CEILING: usize = 1 << 20;
/// Maximum number of cursors and reversals that a guest may have open.
pub const HANDLE_CEILING: u32 = 4096;

const STACK: usize = 1 << 20;
/// The stack that wasm shares with the host functions that it calls.
const FIBER_STACK: usize = 2 << 20;
/// Fuel consumed between two yields to the executor: about a millisecond.
const YIELD_INTERVAL: u64 = 1_000_000;
const BACKTRACE_FRAMES: usize = 64;
const TABLE_ELEMENTS: usize = 20_000;
const TABLES: usize = 64;
const MEMORIES: usize = 16;
/// Maximum core instances. A guest has a few, including its adapters.
const INSTANCES: usize = 64;

/// Creates the engine.
pub(crate) fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .consume_fuel(true)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .max_wasm_stack(STACK)
        .async_stack_size(FIBER_STACK)
        .memory_init_cow(true)
        // Otherwise an environment variable decides, and a replay would have other errors.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES));
    Engine::new(&config)
}

/// The limits of one store, and which of them it has exceeded.
#[derive(Debug)]
pub(crate) struct Ceilings {
    limits: Limits,
    memory_refused: bool,
    table_refused: bool,
    /// Bytes of all memories of the store together.
    memory: usize,
}

/// A limit beyond which a request was denied.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exceeded {
    Memory { mib: u32 },
    Table { elements: usize },
}

impl Ceilings {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, memory_refused: false, table_refused: false, memory: 0 }
    }

    /// Returns the limit that was exceeded, if one was.
    pub(crate) fn exceeded(&self) -> Option<Exceeded> {
        if self.memory_refused {
            Some(Exceeded::Memory { mib: self.limits.memory_mib })
        } else if self.table_refused {
            Some(Exceeded::Table { elements: TABLE_ELEMENTS })
        } else {
            None
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }
}

impl ResourceLimiter for Ceilings {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // A memory does not grow beyond its declared maximum, whatever this returns.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        let fits = total <= (self.limits.memory_mib as usize) << 20;
        if fits {
            self.memory = total;
        }
        self.memory_refused |= !fits;
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = desired <= TABLE_ELEMENTS;
        self.table_refused |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }
    fn tables(&self) -> usize {
        TABLES
    }
    fn memories(&self) -> usize {
        MEMORIES
    }
}

/// Creates a store with all its ceilings.
pub(crate) fn store<T: Send + 'static>(
    engine: &Engine,
    state: T,
    limits: Limits,
    ceilings: fn(&mut T) -> &mut Ceilings,
) -> Store<T> {
    let mut store = Store::new(engine, state);
    store.limiter(move |state| ceilings(state));
    store.set_hostcall_fuel(CALL_CEILING);
    store
        .set_fuel(u64::from(limits.fuel_billions).saturating_mul(1_000_000_000))
        .and_then(|()| store.fuel_async_yield_interval(Some(YIELD_INTERVAL)))
        .expect("the engine consumes fuel");
    store
}
