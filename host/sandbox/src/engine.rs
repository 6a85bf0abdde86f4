//! The engine and its ceilings: everything that a guest could notice is fixed here, so that a run replays.
//!
//! Metering is by fuel alone: it is deterministic, and it yields, so that a deadline or Ctrl-C ends a
//! loop too.

use crate::guest_end::GuestEnd;
use salve_core::document::Limits;
use std::num::NonZeroUsize;
use wasmtime::{Config, Engine, ResourceLimiter, Store};

/// Bytes that a guest may hand over in one call, and that it may return.
pub const CALL_CEILING: usize = 1 << 20;
/// Cursors and suspensions that a guest may hold at once.
pub const HANDLE_CEILING: u32 = 4096;

const STACK: usize = 1 << 20;
/// The stack that wasm and the host functions below it share.
const FIBER_STACK: usize = 2 << 20;
/// Fuel between two moments at which the executor may do something else: about a millisecond.
const FUEL_BETWEEN_YIELDS: u64 = 1_000_000;
const FRAMES_OF_A_BACKTRACE: usize = 64;
const TABLE_ELEMENTS: usize = 20_000;
const TABLES: usize = 64;
const MEMORIES: usize = 16;
/// Core instances: a guest has a few, its adapters included.
const INSTANCES: usize = 64;

/// The engine of this process.
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
        .wasm_backtrace_max_frames(NonZeroUsize::new(FRAMES_OF_A_BACKTRACE));
    Engine::new(&config)
}

/// What holds one store, and what it has refused.
#[derive(Debug)]
pub(crate) struct Ceilings {
    limits: Limits,
    memory_refused: bool,
    table_refused: bool,
    /// Of all memories of the store together.
    memory: usize,
}

impl Ceilings {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, memory_refused: false, table_refused: false, memory: 0 }
    }

    /// The end that a refused growth explains, if one was refused: the trap that follows only says `unreachable`.
    pub(crate) fn refused(&self) -> Option<GuestEnd> {
        if self.memory_refused {
            Some(GuestEnd::Memory { mib: self.limits.memory_mib })
        } else if self.table_refused {
            Some(GuestEnd::Tables { elements: TABLE_ELEMENTS })
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
        // Beyond its own maximum a memory does not grow, whatever is answered.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let together = self.memory.saturating_add(desired.saturating_sub(current));
        let fits = together <= (self.limits.memory_mib as usize) << 20;
        if fits {
            self.memory = together;
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

/// A store with all its ceilings.
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
        .and_then(|()| store.fuel_async_yield_interval(Some(FUEL_BETWEEN_YIELDS)))
        .expect("the engine of this module consumes fuel");
    store
}
