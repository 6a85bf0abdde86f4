//! Reaches every limit at once, and exceeds only the last one.

use crate::{AttackResult, cpu, memory};
use salve_sdk::run::{self, Level};

pub fn everything() -> AttackResult {
    let handles = memory::handles()?;
    let patterns = cpu::pattern()?.lines().count();
    let line = "x".repeat(16 << 10);
    for _ in 0..64 {
        run::note(Level::Info, &line);
    }
    let blocks = memory::fill();
    run::note(Level::Info, &format!("{handles}; {patterns} patterns; {} MiB", blocks.len()));
    std::hint::black_box(&blocks);
    cpu::spin()
}
