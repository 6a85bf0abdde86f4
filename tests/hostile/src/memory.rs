//! Memory and handles: the guest's own, and what it makes the host hold.

use crate::Came;
use salve_sdk::tail_logs::{self, Query};
use salve_sdk::{ObjectRef, query_pvcs, run};

pub fn hoard() -> Came {
    let mut all: Vec<Vec<u8>> = vec![];
    loop {
        all.push(vec![7; 1 << 20]);
        std::hint::black_box(&all);
    }
}

/// All the memory that it can have, a MiB each, without breaking of it.
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

/// Cursors that are never closed.
pub fn handles() -> Came {
    let query = Query {
        deployment: ObjectRef::new("rook-ceph", "csi-rbdplugin-provisioner"),
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

pub fn shout() -> Came {
    run::note(run::Level::Info, &"x".repeat(4 << 20));
    Ok("it was taken".into())
}

pub fn list() -> Came {
    let namespaces = vec!["media".to_owned(); 200_000];
    Ok(query_pvcs::list_pvcs(&namespaces)
        .map_or_else(|error| error.message().to_owned(), |pvcs| format!("GOT {}", pvcs.len())))
}

/// A string that claims to be longer than the memory that it lies in.
pub fn beyond() -> Came {
    #[link(wasm_import_module = "salve:cluster/run@0.1.0")]
    unsafe extern "C" {
        #[link_name = "note"]
        fn note(level: i32, at: *const u8, length: usize);
    }
    // SAFETY: there is none; that is the attack. The host has to refuse it.
    unsafe { note(0, 0xffff_0000_usize as *const u8, 0x0fff_ffff) };
    Ok("it was taken".into())
}
