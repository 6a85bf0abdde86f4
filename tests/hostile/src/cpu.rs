//! Attacks on CPU time, of the guest and of the host.

use crate::AttackResult;
use salve_sdk::tail_logs::{self, Query};
use salve_sdk::{ObjectRef, run};

pub fn spin() -> AttackResult {
    loop {
        std::hint::black_box(());
    }
}

pub fn recurse() -> AttackResult {
    Ok(deep(1).to_string())
}

#[allow(unconditional_recursion)]
fn deep(n: u64) -> u64 {
    std::hint::black_box(deep(std::hint::black_box(n + 1))) + n
}

/// Copies 4 MiB with a single instruction.
pub fn copy() -> AttackResult {
    let mut memory = vec![7_u8; 8 << 20];
    let half = memory.len() / 2;
    loop {
        memory.copy_within(..half, half);
        std::hint::black_box(&memory);
    }
}

pub fn sleep() -> AttackResult {
    loop {
        run::sleep(3_600_000);
    }
}

pub fn calls() -> AttackResult {
    loop {
        std::hint::black_box(run::now());
    }
}

/// Passes patterns that are expensive to compile or to match.
pub fn pattern() -> AttackResult {
    let mut outcomes = vec![];
    for pattern in [
        "((((a{100}){100}){100}){100}){100}",
        "(x+x+)+y",
        "(?i)(\\pL{0,200}){200}",
        "\\w{0,1000}\\w{0,1000}\\w{0,1000}$",
    ] {
        let query = Query {
            workload: tail_logs::Workload {
                kind: tail_logs::WorkloadKind::Deployment,
                object: ObjectRef::new("rook-ceph", "csi-rbdplugin-provisioner"),
            },
            container: "csi-rbdplugin".into(),
            since: None,
            tail_lines: None,
            limit_bytes: 1 << 20,
            pattern: Some(pattern.into()),
        };
        let page = tail_logs::open(&query).and_then(|cursor| cursor.next());
        outcomes.push(page.map_or_else(
            |error| error.message().to_owned(),
            |page| format!("{} lines", page.lines.len()),
        ));
    }
    Ok(outcomes.join("\n"))
}
