//! Time: of the guest's own, and of the host's.

use crate::Came;
use salve_sdk::tail_logs::{self, Query};
use salve_sdk::{ObjectRef, run};

pub fn spin() -> Came {
    loop {
        std::hint::black_box(());
    }
}

pub fn recurse() -> Came {
    Ok(deep(1).to_string())
}

#[allow(unconditional_recursion)]
fn deep(n: u64) -> u64 {
    std::hint::black_box(deep(std::hint::black_box(n + 1))) + n
}

/// One instruction each, and eight MiB of work.
pub fn copy() -> Came {
    let mut memory = vec![7_u8; 8 << 20];
    let half = memory.len() / 2;
    loop {
        memory.copy_within(..half, half);
        std::hint::black_box(&memory);
    }
}

pub fn sleep() -> Came {
    loop {
        run::sleep(3_600_000);
    }
}

pub fn calls() -> Came {
    loop {
        std::hint::black_box(run::now());
    }
}

/// Patterns that blow up when they are compiled, or when they are searched for.
pub fn pattern() -> Came {
    let mut told = vec![];
    for pattern in [
        "((((a{100}){100}){100}){100}){100}",
        "(x+x+)+y",
        "(?i)(\\pL{0,200}){200}",
        "\\w{0,1000}\\w{0,1000}\\w{0,1000}$",
    ] {
        let query = Query {
            deployment: ObjectRef::new("rook-ceph", "csi-rbdplugin-provisioner"),
            container: "csi-rbdplugin".into(),
            since: None,
            tail_lines: None,
            limit_bytes: 1 << 20,
            pattern: Some(pattern.into()),
        };
        let page = tail_logs::open(&query).and_then(|cursor| cursor.next());
        told.push(page.map_or_else(
            |error| error.message().to_owned(),
            |page| format!("{} lines", page.lines.len()),
        ));
    }
    Ok(told.join("\n"))
}
