//! Enforces grants by linking: a guest cannot call an interface that is not linked.

use crate::bindings::salve::cluster;
use crate::inspect::Inspection;
use crate::interfaces::each_interface;
use crate::load_error::Ungranted;
use crate::state::State;
use salve_core::capability::{Access, Capability};
use salve_core::grants::Grants;
use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

/// The write capabilities that a guest is linked with. Read capabilities are always linked: the run
/// decides each read.
#[derive(Clone, Copy, Debug)]
pub enum Linking<'a> {
    /// The granted ones, for `run` and `plan`.
    Granted(&'a Grants),
    /// All of them, for `check` and `replay`, where the run denies each write.
    Every,
}

type Link = fn(&mut Linker<State>) -> wasmtime::Result<()>;

macro_rules! links {
    ($($capability:ident $interface:literal $module:ident;)*) => {
        &[$((Capability::$capability, |linker| {
            cluster::$module::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
        }),)*]
    };
}

const INTERFACES: &[(Capability, Link)] = each_interface! { [links] };

/// Checks that each write capability that the guest imports is granted.
pub(crate) fn check_granted(
    inspection: &Inspection,
    linking: Linking<'_>,
) -> Result<(), Ungranted> {
    let mut capabilities: Vec<_> =
        inspection.known().filter(|capability| !is_linked(*capability, linking)).collect();
    capabilities.dedup();
    if capabilities.is_empty() { Ok(()) } else { Err(Ungranted { capabilities }) }
}

/// Creates a linker with the capabilities that the guest imports and may have, and no others.
pub(crate) fn linker(
    engine: &Engine,
    inspection: &Inspection,
    linking: Linking<'_>,
) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    // It needs no grant: a guest has only the reversals that its writes returned.
    cluster::reversals::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    for (capability, link) in INTERFACES {
        if is_linked(*capability, linking) && inspection.known().any(|known| known == *capability) {
            link(&mut linker)?;
        }
    }
    Ok(linker)
}

fn is_linked(capability: Capability, linking: Linking<'_>) -> bool {
    match (capability.access(), linking) {
        (Access::Builtin | Access::Read, _) | (Access::Write, Linking::Every) => true,
        // mutant ungranted-writes-linked: grants.names ~> !grants.layers.is_empty() || grants.names
        (Access::Write, Linking::Granted(grants)) => grants.names(capability),
        (Access::Internal, _) => false,
    }
}
