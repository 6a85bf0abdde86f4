//! Escapes untrusted text before it is printed to a terminal or a page.

use std::fmt::Write;

/// Replaces control, bidirectional, and other invisible characters with a visible escape, also line
/// feeds and tabs: one line stays one line.
pub fn sanitized(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // mutant control-characters-printed: is_unsafe(c) ~> is_unsafe(c) && c as u32 > 0xff
        if is_unsafe(c) {
            write!(out, "\\u{{{:x}}}", c as u32).expect("writing to a String cannot fail");
        } else {
            out.push(c);
        }
    }
    out
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{17b4}'
                | '\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_bidirectional_marks_become_visible() {
        assert_eq!(sanitized("a\x1b[31mred\u{202e}x\n"), "a\\u{1b}[31mred\\u{202e}x\\u{a}");
        assert_eq!(sanitized("pvc ceph-block — ok ✓"), "pvc ceph-block — ok ✓");
    }
}
