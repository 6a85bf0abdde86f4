//! Grants by linking: an interface that is not linked cannot be called.

use crate::bindings::salve::cluster::{
    delete_replicationsources, query_drivers, query_flux, query_objects, query_pods, query_pvcs,
    query_replicationsources, reconcile_flux, restart_deployment, run, suspend_flux, tail_logs,
};
use crate::inspect::Inspection;
use crate::load_error::Ungranted;
use crate::state::State;
use salve_core::effect::Access;
use salve_core::grants::Grants;
use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

/// Which touch interfaces a guest gets. What it may look at, the door decides call by call.
#[derive(Clone, Copy, Debug)]
pub enum Linking<'a> {
    /// Those that something grants: for `run` and `plan`.
    Granted(&'a Grants),
    /// Every one that we know; the door denies each touch: for `check` and `replay`.
    Every,
}

type Link = fn(&mut Linker<State>) -> wasmtime::Result<()>;

/// One line an interface.
const INTERFACES: &[(&str, Link)] = &[
    ("run", |l| run::add_to_linker::<_, HasSelf<State>>(l, |s| s)),
    ("query-flux", |l| query_flux::add_to_linker::<_, HasSelf<State>>(l, |s| s)),
    ("query-replicationsources", |l| {
        query_replicationsources::add_to_linker::<_, HasSelf<State>>(l, |s| s)
    }),
    ("query-pvcs", |l| query_pvcs::add_to_linker::<_, HasSelf<State>>(l, |s| s)),
    ("query-drivers", |l| query_drivers::add_to_linker::<_, HasSelf<State>>(l, |s| s)),
    ("query-pods", |l| query_pods::add_to_linker::<_, HasSelf<State>>(l, |s| s)),
    ("query-objects", |l| query_objects::add_to_linker::<_, HasSelf<State>>(l, |s| s)),
    ("tail-logs", |l| tail_logs::add_to_linker::<_, HasSelf<State>>(l, |s| s)),
    ("suspend-flux", |l| suspend_flux::add_to_linker::<_, HasSelf<State>>(l, |s| s)),
    ("reconcile-flux", |l| reconcile_flux::add_to_linker::<_, HasSelf<State>>(l, |s| s)),
    ("delete-replicationsources", |l| {
        delete_replicationsources::add_to_linker::<_, HasSelf<State>>(l, |s| s)
    }),
    ("restart-deployment", |l| restart_deployment::add_to_linker::<_, HasSelf<State>>(l, |s| s)),
];

/// The touch capabilities that the guest imports and nothing grants.
pub(crate) fn ungranted(inspection: &Inspection, linking: Linking<'_>) -> Result<(), Ungranted> {
    let mut capabilities: Vec<_> = inspection
        .known()
        .filter(|(name, access_of)| !given(name, *access_of, linking))
        .map(|(name, _)| name)
        .collect();
    capabilities.dedup();
    if capabilities.is_empty() { Ok(()) } else { Err(Ungranted { capabilities }) }
}

/// A linker with what the guest imports and gets, and nothing else.
pub(crate) fn linker(
    engine: &Engine,
    inspection: &Inspection,
    linking: Linking<'_>,
) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    for (name, link) in INTERFACES {
        if inspection
            .known()
            .any(|(known, access_of)| known == *name && given(known, access_of, linking))
        {
            link(&mut linker)?;
        }
    }
    Ok(linker)
}

fn given(name: &str, access_of: Access, linking: Linking<'_>) -> bool {
    match (access_of, linking) {
        (Access::Builtin | Access::Read, _) | (Access::Write, Linking::Every) => true,
        // mutant ungranted-writes-linked: grants.names ~> !grants.layers.is_empty() || grants.names
        (Access::Write, Linking::Granted(grants)) => grants.names(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::effect::CAPABILITIES;

    #[test]
    fn every_capability_of_the_table_can_be_linked() {
        let linked: Vec<_> = INTERFACES.iter().map(|(name, _)| *name).collect();
        let known: Vec<_> = CAPABILITIES.iter().map(|(name, _)| *name).collect();
        assert_eq!(linked, known);
    }
}
