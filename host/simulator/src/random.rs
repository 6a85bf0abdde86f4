//! Deterministic pseudo-random values.

/// A pseudo-random number generator (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a UID in the format of a version 4 UUID.
    pub fn uid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        )
    }

    /// Returns a suffix like those that the API server appends to `generateName`.
    pub fn suffix(&mut self) -> String {
        let mut bits = self.next();
        (0..5)
            .map(|_| {
                let letter =
                    SUFFIX_ALPHABET[(bits % SUFFIX_ALPHABET.len() as u64) as usize] as char;
                bits /= SUFFIX_ALPHABET.len() as u64;
                letter
            })
            .collect()
    }
}

/// Returns a hash of `text` that is less than `below`. Controllers use it to spread similar tasks
/// over time.
pub fn hash_below(text: &str, below: u64) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash) % below.max(1)
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
