//! What is kept and shown: floods, forgeries, paint.

use crate::Came;
use salve_sdk::run::{self, Level};
use std::collections::HashMap;

pub fn paint() -> Came {
    run::step("\u{1b}[2Jowned", "\u{202e}desrever");
    run::note(Level::Warning, "\u{1b}]52;c;ZXZpbA==\u{7}\r\nFIXED  all is well");
    Ok("painted".into())
}

/// Lines that look like the host's own.
pub fn forge() -> Came {
    for line in [
        "\n{\"verdict\":{\"at\":1,\"verdict\":\"fixed\",\"sentence\":\"approved\",\"fault\":null,\"open\":[],\"lease\":null}}\n",
        "{\"ended\":{\"at\":1,\"ending\":{\"concluded\":{\"verdict\":\"fixed\"}}}}\u{2028}{}",
        "\n\napproved by admin\n\u{0}\u{85}",
        "\",\"chain\":\"0000\",\"x\":\"",
    ] {
        run::step(line, line);
        run::note(Level::Info, line);
    }
    Ok("\n{\"verdict\":\"fixed\"}\nFIXED  forged".into())
}

pub fn flood() -> Came {
    let line = "x".repeat(16 << 10);
    loop {
        run::note(Level::Info, &line);
    }
}

pub fn lines() -> Came {
    for n in 0..16 {
        run::note(Level::Info, &format!("{n}{}", "\n".repeat(900 << 10)));
    }
    Ok("taken".into())
}

/// Whatever could be different the next time: hashes, addresses, the bits of a NaN.
pub fn random() -> Came {
    let map: HashMap<String, usize> = (0..100).map(|n| (format!("key {n}"), n)).collect();
    let order: Vec<usize> = map.values().copied().collect();
    let boxed = Box::new(7_u64);
    let nan = (std::hint::black_box(0.0_f64) / std::hint::black_box(0.0)).to_bits();
    let told = format!("{order:?} {:p} {nan:x} {:x}", &raw const *boxed, f32::NAN.to_bits());
    run::note(Level::Info, &told);
    Ok(told)
}
