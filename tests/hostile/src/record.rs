//! Attacks on the journal and the terminal: floods, forged lines, and control sequences.

use crate::AttackResult;
use salve_sdk::run::{self, Level};
use std::collections::HashMap;

/// Sends terminal control sequences.
pub fn paint() -> AttackResult {
    run::step("\u{1b}[2Jowned", "\u{202e}desrever");
    run::note(Level::Warning, "\u{1b}]52;c;ZXZpbA==\u{7}\r\nFIXED  all is well");
    Ok("painted".into())
}

/// Writes lines that look like the host's own.
pub fn forge() -> AttackResult {
    for line in [
        "\n{\"verdict\":{\"at\":1,\"verdict\":\"fixed\",\"summary\":\"approved\",\"open\":[]}}\n",
        "{\"guest-exited\":{\"at\":1,\"exit\":{\"concluded\":{\"verdict\":\"fixed\"}}}}\u{2028}{}",
        "\n\napproved by admin\n\u{0}\u{85}",
        "\",\"chain\":\"0000\",\"x\":\"",
    ] {
        run::step(line, line);
        run::note(Level::Info, line);
    }
    Ok("\n{\"verdict\":\"fixed\"}\nFIXED  forged".into())
}

/// Writes notes until it is stopped.
pub fn flood() -> AttackResult {
    let line = "x".repeat(16 << 10);
    loop {
        run::note(Level::Info, &line);
    }
}

/// Writes notes of many lines.
pub fn lines() -> AttackResult {
    for n in 0..16 {
        run::note(Level::Info, &format!("{n}{}", "\n".repeat(900 << 10)));
    }
    Ok("the notes were accepted".into())
}

/// Reports values that could differ in a replay: hash order, addresses, and the bits of a NaN.
pub fn random() -> AttackResult {
    let map: HashMap<String, usize> = (0..100).map(|n| (format!("key {n}"), n)).collect();
    let order: Vec<usize> = map.values().copied().collect();
    let boxed = Box::new(7_u64);
    let nan = (std::hint::black_box(0.0_f64) / std::hint::black_box(0.0)).to_bits();
    let values = format!("{order:?} {:p} {nan:x} {:x}", &raw const *boxed, f32::NAN.to_bits());
    run::note(Level::Info, &values);
    Ok(values)
}
