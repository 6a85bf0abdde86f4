//! Attacks on memory and handles, of the guest and of the host.

use crate::AttackResult;
use salve_sdk::tail_logs::{self, Query};
use salve_sdk::{ObjectRef, query_pvcs, run};

pub fn hoard() -> AttackResult {
    let mut all: Vec<Vec<u8>> = vec![];
    loop {
        all.push(vec![7; 1 << 20]);
        std::hint::black_box(&all);
    }
}

/// Allocates all available memory in blocks of 1 MiB without crashing.
pub fn fill() -> Vec<Vec<u8>> {
    let mut all = vec![];
    loop {
        let mut block: Vec<u8> = vec![];
        if block.try_reserve_exact(1 << 20).is_err() {
            return all;
        }
        block.resize(1 << 20, 7);
        all.push(block);
    }
}

/// Opens cursors and never closes them.
pub fn handles() -> AttackResult {
    let query = Query {
        workload: tail_logs::Workload {
            kind: tail_logs::WorkloadKind::Deployment,
            object: ObjectRef::new("rook-ceph", "csi-rbdplugin-provisioner"),
        },
        container: "csi-rbdplugin".into(),
        since: None,
        tail_lines: None,
        limit_bytes: 1,
        pattern: None,
    };
    for opened in 0..1_000_000 {
        match tail_logs::open(&query) {
            Ok(cursor) => std::mem::forget(cursor),
            Err(error) => return Ok(format!("{opened} cursors, then: {}", error.message())),
        }
    }
    Ok("a million cursors".into())
}

pub fn shout() -> AttackResult {
    run::note(run::Level::Info, &"x".repeat(4 << 20));
    Ok("the note was accepted".into())
}

pub fn list() -> AttackResult {
    let namespaces = vec!["media".to_owned(); 200_000];
    Ok(query_pvcs::list_pvcs(&namespaces)
        .map_or_else(|error| error.message().to_owned(), |pvcs| format!("GOT {}", pvcs.len())))
}

/// Passes a string that extends beyond the end of memory.
pub fn beyond() -> AttackResult {
    #[link(wasm_import_module = "salve:cluster/run@0.1.0")]
    unsafe extern "C" {
        #[link_name = "note"]
        fn note(level: i32, text: *const u8, length: usize);
    }
    // SAFETY: it is not safe. The host must reject the call.
    unsafe { note(0, 0xffff_0000_usize as *const u8, 0x0fff_ffff) };
    Ok("the note was accepted".into())
}
