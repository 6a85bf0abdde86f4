//! Cuts the text of one log into lines, from where the page before ended: none is lost and none comes twice.

use crate::object::capped;
use jiff::Timestamp;
use salve_core::Millis;
use salve_core::effect::tail_logs::Position;

/// What was read of one log.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stretch {
    /// New lines, whole ones.
    pub lines: Vec<Read>,
    /// There is more at once.
    pub cut: bool,
    /// Where it ends; none where nothing was ever read.
    pub position: Option<Position>,
    /// Lines that bear no time: words of the kubelet, not of the container.
    pub odd: Vec<String>,
}

/// One line.
#[derive(Debug, PartialEq)]
pub(super) struct Read {
    pub time: Millis,
    pub text: String,
}

/// A line with its own time.
struct Stamped<'a> {
    stamp: &'a str,
    at: Timestamp,
    text: &'a str,
}

/// The lines of `bytes` that come after `before`, or later than `since` where nothing was read yet.
pub(super) fn cut(
    bytes: &[u8],
    limit: usize,
    pod: &str,
    before: Option<&Position>,
    since: Option<Millis>,
) -> Stretch {
    // What stands after the last line feed is half a line: cut by the limit, or still being written. The next page has it whole.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let text = String::from_utf8_lossy(&bytes[..whole]);
    let mut odd = Vec::new();
    let all: Vec<Stamped<'_>> = text
        .lines()
        .filter_map(|line| {
            let stamped = stamped(line);
            if stamped.is_none() && !line.trim().is_empty() {
                odd.push(capped(line, 300));
            }
            stamped
        })
        .collect();
    odd.truncate(3);
    let before = before.filter(|position| !position.timestamp.is_empty());
    let from = before.map_or(0, |position| resume(&all, position));
    let later = |at: Timestamp| {
        since.is_none_or(|since| at.as_nanosecond() > i128::from(since) * 1_000_000)
    };
    let lines =
        all[from..].iter().filter(|line| before.is_some() || later(line.at)).filter_map(|line| {
            let time = Millis::try_from(line.at.as_millisecond()).ok()?;
            Some(Read { time, text: line.text.to_owned() })
        });
    Stretch {
        lines: lines.collect(),
        cut: bytes.len() >= limit,
        position: end(&all, from, pod).or_else(|| before.cloned()),
        odd,
    }
}

/// The index of the first line that was not read. The stream's order counts, not the times: two pipes of one container may swap a few.
fn resume(all: &[Stamped<'_>], position: &Position) -> usize {
    let Ok(latest) = position.timestamp.parse::<Timestamp>() else { return 0 };
    match all.iter().position(|line| line.at == latest) {
        Some(first) => {
            let mut counted = counted(&all[first..], latest).skip(position.ordinal as usize);
            counted.next().map_or(all.len(), |index| first + index)
        }
        // The line is not there any more: the log was rotated, or the container started anew.
        None => all.iter().position(|line| line.at > latest).unwrap_or(all.len()),
    }
}

/// The latest time so far, and how many lines were read from the first of that time on. None where nothing new was read.
///
/// The time never goes back, though the last line's may: else a page too small to reach a line would show what came before it again.
fn end(all: &[Stamped<'_>], from: usize, pod: &str) -> Option<Position> {
    // mutant log-with-old-times-loops: max ~> last
    let latest = all.iter().map(|line| line.at).max().filter(|_| from < all.len())?;
    let first = all.iter().position(|line| line.at == latest)?;
    let ordinal = u32::try_from(counted(&all[first..], latest).count()).unwrap_or(u32::MAX);
    Some(Position { pod: pod.to_owned(), timestamp: all[first].stamp.to_owned(), ordinal })
}

/// The indices of lines that the next page has, too: those before the latest whole second are asked for no more.
fn counted(lines: &[Stamped<'_>], latest: Timestamp) -> impl Iterator<Item = usize> {
    let second = latest.as_second();
    lines
        .iter()
        .enumerate()
        .filter(move |(_, line)| line.at.as_second() >= second)
        .map(|(index, _)| index)
}

fn stamped(line: &str) -> Option<Stamped<'_>> {
    let (stamp, text) = line.split_once(' ').unwrap_or((line, ""));
    Some(Stamped { stamp, at: stamp.parse().ok()?, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[(u32, &str)]) -> String {
        lines
            .iter()
            .map(|(nanos, text)| format!("2026-08-20T10:00:00.{nanos:09}Z {text}\n"))
            .collect()
    }

    fn texts(stretch: &Stretch) -> Vec<&str> {
        stretch.lines.iter().map(|line| line.text.as_str()).collect()
    }

    const PLENTY: usize = 1 << 20;

    /// Reads a log as a cursor does, in pages of `limit` bytes, from the second of the last line on.
    fn read_all(log: &str, limit: usize) -> Vec<String> {
        let (mut before, mut all, mut size) = (None, Vec::new(), limit);
        loop {
            let page =
                cut(&log.as_bytes()[..size.min(log.len())], size, "u", before.as_ref(), None);
            assert!(all.len() <= log.len(), "pages of {limit} bytes have no end");
            if page.lines.is_empty() && page.cut {
                size *= 2;
                continue;
            }
            size = limit;
            all.extend(page.lines.iter().map(|line| line.text.clone()));
            let done = !page.cut;
            before = page.position;
            if done {
                return all;
            }
        }
    }

    #[test]
    fn pages_of_any_size_neither_lose_nor_double_a_line() {
        // Several lines of one instant, and two that stand in the wrong order.
        let lines = [
            (1, "a"),
            (1, "b"),
            (1, "c"),
            (5, "d"),
            (4, "e"),
            (5, "f"),
            (6, ""),
            (6, "a much longer line than any of the others"),
            (5, "g"),
            (7, "h"),
        ];
        // And where a page ends with a line that is earlier than what a smaller page reaches.
        let (long, longer) = ("e".repeat(100), "f".repeat(300));
        let back = [(1, "a"), (5, "d"), (4, long.as_str()), (6, longer.as_str()), (7, "g")];
        for log in [log(&lines), log(&back)] {
            let expected: Vec<&str> =
                log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
            for limit in 1..=log.len() + 1 {
                assert_eq!(read_all(&log, limit), expected, "pages of {limit} bytes");
            }
        }
    }

    /// The next page lacks what is of an earlier second.
    #[test]
    fn a_line_of_an_earlier_second_is_not_counted() {
        let line =
            |seconds: u32, text: &str| format!("2026-08-20T10:00:{seconds:02}.000000001Z {text}\n");
        let (first, later) =
            ([line(10, "a"), line(9, "b")].concat(), [line(10, "c"), line(10, "d")].concat());
        let page = cut(first.as_bytes(), first.len(), "u", None, None);
        assert_eq!(
            (texts(&page), page.position.as_ref().map(|position| position.ordinal)),
            (vec!["a", "b"], Some(1))
        );
        let next = line(10, "a") + &later;
        assert_eq!(
            texts(&cut(next.as_bytes(), PLENTY, "u", page.position.as_ref(), None)),
            ["c", "d"]
        );
        // From an API server that gives it all the same.
        assert_eq!(
            texts(&cut((first + &later).as_bytes(), PLENTY, "u", page.position.as_ref(), None)),
            ["c", "d"]
        );
    }

    #[test]
    fn half_a_line_waits_for_the_next_page() {
        let log = log(&[(1, "a"), (2, "bcdef")]);
        let page = cut(&log.as_bytes()[..log.len() - 3], log.len() - 3, "u", None, None);
        assert_eq!((texts(&page), page.cut), (vec!["a"], true));
        let page = cut(log.as_bytes(), PLENTY, "u", page.position.as_ref(), None);
        assert_eq!((texts(&page), page.cut), (vec!["bcdef"], false));
    }

    #[test]
    fn since_is_exact_though_the_api_server_keeps_whole_seconds() {
        let log = log(&[(899_000_000, "before"), (900_000_000, "at"), (900_000_001, "after")]);
        let since = crate::time::millis("2026-08-20T10:00:00.900Z");
        assert_eq!(texts(&cut(log.as_bytes(), PLENTY, "u", None, since)), ["after"]);
    }

    #[test]
    fn an_empty_page_keeps_its_place() {
        let log = log(&[(1, "a")]);
        let first = cut(log.as_bytes(), PLENTY, "u", None, None);
        assert_eq!(
            first.position,
            Some(Position {
                pod: "u".into(),
                timestamp: "2026-08-20T10:00:00.000000001Z".into(),
                ordinal: 1
            })
        );
        let second = cut(log.as_bytes(), PLENTY, "u", first.position.as_ref(), None);
        assert!(second.lines.is_empty());
        assert_eq!(second.position, first.position);
        assert_eq!(cut(b"", PLENTY, "u", None, None), Stretch::default());
    }

    #[test]
    fn a_rotated_log_goes_on_after_its_last_time() {
        let old = Position {
            pod: "u".into(),
            timestamp: "2026-08-20T10:00:00.000000003Z".into(),
            ordinal: 2,
        };
        assert_eq!(
            texts(&cut(log(&[(2, "old"), (4, "new")]).as_bytes(), PLENTY, "u", Some(&old), None)),
            ["new"]
        );
    }

    #[test]
    fn what_is_no_utf8_and_what_bears_no_time_is_survived() {
        let mut bytes = log(&[(1, "a")]).into_bytes();
        bytes.extend(b"unable to retrieve container logs for containerd://x\n2026-08-20T10:00:01Z \xff\xfe!\n");
        let page = cut(&bytes, PLENTY, "u", None, None);
        assert_eq!(texts(&page), ["a", "\u{fffd}\u{fffd}!"]);
        assert!(page.odd[0].starts_with("unable to retrieve"));
    }

    #[test]
    fn lines_before_since_still_move_the_place() {
        let log = log(&[(1, "a")]);
        let page =
            cut(log.as_bytes(), PLENTY, "u", None, crate::time::millis("2026-08-20T11:00:00Z"));
        assert!(page.lines.is_empty() && page.position.is_some());
    }
}
