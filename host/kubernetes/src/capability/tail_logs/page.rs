//! Parses the text of one log into lines, starting where the previous page ended, without losing or
//! repeating a line.

use crate::object::truncated;
use jiff::Timestamp;
use salve_core::Millis;
use salve_core::capability::tail_logs::Position;

/// A part of one log.
#[derive(Debug, Default, PartialEq)]
pub(super) struct LogChunk {
    /// New, complete lines.
    pub lines: Vec<LogLine>,
    /// Whether the log continues after this chunk.
    pub truncated: bool,
    /// The position after the chunk; None if no line was ever read.
    pub position: Option<Position>,
    /// Lines without a timestamp, i.e. messages of the kubelet.
    pub untimed: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub(super) struct LogLine {
    pub time: Millis,
    pub text: String,
}

/// A line with its timestamp, as text and parsed.
struct TimedLine<'a> {
    timestamp: &'a str,
    at: Timestamp,
    text: &'a str,
}

/// Returns the lines in `bytes` after `before`, or later than `since` if nothing was read yet.
pub(super) fn parse_chunk(
    bytes: &[u8],
    limit: usize,
    pod: &str,
    before: Option<&Position>,
    since: Option<Millis>,
) -> LogChunk {
    // The last line is incomplete unless it ends with a line feed. The next page contains it
    // completely.
    let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let text = String::from_utf8_lossy(&bytes[..complete]);
    let mut untimed = Vec::new();
    let all: Vec<TimedLine<'_>> = text
        .lines()
        .filter_map(|line| {
            let timed = parse_line(line);
            if timed.is_none() && !line.trim().is_empty() {
                untimed.push(truncated(line, 300));
            }
            timed
        })
        .collect();
    untimed.truncate(3);
    let before = before.filter(|position| !position.timestamp.is_empty());
    let from = before.map_or(0, |position| first_unread(&all, position));
    let is_later = |at: Timestamp| {
        since.is_none_or(|since| at.as_nanosecond() > i128::from(since) * 1_000_000)
    };
    let lines = all[from..].iter().filter(|line| before.is_some() || is_later(line.at)).filter_map(
        |line| {
            let time = Millis::try_from(line.at.as_millisecond()).ok()?;
            Some(LogLine { time, text: line.text.to_owned() })
        },
    );
    LogChunk {
        lines: lines.collect(),
        truncated: bytes.len() >= limit,
        position: end_position(&all, from, pod).or_else(|| before.cloned()),
        untimed,
    }
}

/// Returns the index of the first unread line. The order in the stream counts, not the timestamps,
/// because stdout and stderr of a container can be interleaved out of order.
fn first_unread(all: &[TimedLine<'_>], position: &Position) -> usize {
    let Ok(latest) = position.timestamp.parse::<Timestamp>() else { return 0 };
    match all.iter().position(|line| line.at == latest) {
        Some(first) => {
            let mut countable = countable(&all[first..], latest).skip(position.ordinal as usize);
            countable.next().map_or(all.len(), |index| first + index)
        }
        // The line no longer exists: the log was rotated, or the container restarted.
        None => all.iter().position(|line| line.at > latest).unwrap_or(all.len()),
    }
}

/// Returns the latest timestamp, and the number of lines read from its first occurrence on. None if
/// no new line was read.
///
/// The timestamp never goes back, even if that of the last line does. Otherwise, a page too small
/// to reach that line would repeat the lines before it.
fn end_position(all: &[TimedLine<'_>], from: usize, pod: &str) -> Option<Position> {
    // mutant log-with-old-times-loops: max ~> last
    let latest = all.iter().map(|line| line.at).max().filter(|_| from < all.len())?;
    let first = all.iter().position(|line| line.at == latest)?;
    let ordinal = u32::try_from(countable(&all[first..], latest).count()).unwrap_or(u32::MAX);
    Some(Position { pod: pod.to_owned(), timestamp: all[first].timestamp.to_owned(), ordinal })
}

/// Returns the indices of the lines that the next page contains as well: those not before the
/// latest whole second.
fn countable(lines: &[TimedLine<'_>], latest: Timestamp) -> impl Iterator<Item = usize> {
    let second = latest.as_second();
    lines
        .iter()
        .enumerate()
        .filter(move |(_, line)| line.at.as_second() >= second)
        .map(|(index, _)| index)
}

fn parse_line(line: &str) -> Option<TimedLine<'_>> {
    let (timestamp, text) = line.split_once(' ').unwrap_or((line, ""));
    Some(TimedLine { timestamp, at: timestamp.parse().ok()?, text })
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

    fn texts(chunk: &LogChunk) -> Vec<&str> {
        chunk.lines.iter().map(|line| line.text.as_str()).collect()
    }

    const NO_LIMIT: usize = 1 << 20;

    /// Reads a log as a cursor does, in pages of `limit` bytes.
    fn read_all(log: &str, limit: usize) -> Vec<String> {
        let (mut before, mut all, mut size) = (None, Vec::new(), limit);
        loop {
            let page = parse_chunk(
                &log.as_bytes()[..size.min(log.len())],
                size,
                "u",
                before.as_ref(),
                None,
            );
            assert!(all.len() <= log.len(), "pages of {limit} bytes do not end");
            if page.lines.is_empty() && page.truncated {
                size *= 2;
                continue;
            }
            size = limit;
            all.extend(page.lines.iter().map(|line| line.text.clone()));
            let done = !page.truncated;
            before = page.position;
            if done {
                return all;
            }
        }
    }

    #[test]
    fn pages_of_any_size_neither_lose_nor_repeat_a_line() {
        // Several lines with the same timestamp, and two in the wrong order.
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
        // A page that ends with a line that is earlier than the last one of a smaller page.
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

    /// The next page does not contain lines of an earlier second.
    #[test]
    fn a_line_of_an_earlier_second_is_not_counted() {
        let line =
            |seconds: u32, text: &str| format!("2026-08-20T10:00:{seconds:02}.000000001Z {text}\n");
        let (first, later) =
            ([line(10, "a"), line(9, "b")].concat(), [line(10, "c"), line(10, "d")].concat());
        let page = parse_chunk(first.as_bytes(), first.len(), "u", None, None);
        assert_eq!(
            (texts(&page), page.position.as_ref().map(|position| position.ordinal)),
            (vec!["a", "b"], Some(1))
        );
        let next = line(10, "a") + &later;
        assert_eq!(
            texts(&parse_chunk(next.as_bytes(), NO_LIMIT, "u", page.position.as_ref(), None)),
            ["c", "d"]
        );
        // An API server may return it nevertheless.
        assert_eq!(
            texts(&parse_chunk(
                (first + &later).as_bytes(),
                NO_LIMIT,
                "u",
                page.position.as_ref(),
                None
            )),
            ["c", "d"]
        );
    }

    #[test]
    fn an_incomplete_line_is_left_for_the_next_page() {
        let log = log(&[(1, "a"), (2, "bcdef")]);
        let page = parse_chunk(&log.as_bytes()[..log.len() - 3], log.len() - 3, "u", None, None);
        assert_eq!((texts(&page), page.truncated), (vec!["a"], true));
        let page = parse_chunk(log.as_bytes(), NO_LIMIT, "u", page.position.as_ref(), None);
        assert_eq!((texts(&page), page.truncated), (vec!["bcdef"], false));
    }

    #[test]
    fn since_is_exact_although_the_api_server_uses_whole_seconds() {
        let log = log(&[(899_000_000, "before"), (900_000_000, "at"), (900_000_001, "after")]);
        let since = crate::time::millis("2026-08-20T10:00:00.900Z");
        assert_eq!(texts(&parse_chunk(log.as_bytes(), NO_LIMIT, "u", None, since)), ["after"]);
    }

    #[test]
    fn an_empty_page_keeps_the_position() {
        let log = log(&[(1, "a")]);
        let first = parse_chunk(log.as_bytes(), NO_LIMIT, "u", None, None);
        assert_eq!(
            first.position,
            Some(Position {
                pod: "u".into(),
                timestamp: "2026-08-20T10:00:00.000000001Z".into(),
                ordinal: 1
            })
        );
        let second = parse_chunk(log.as_bytes(), NO_LIMIT, "u", first.position.as_ref(), None);
        assert!(second.lines.is_empty());
        assert_eq!(second.position, first.position);
        assert_eq!(parse_chunk(b"", NO_LIMIT, "u", None, None), LogChunk::default());
    }

    #[test]
    fn a_rotated_log_continues_after_the_last_timestamp() {
        let old = Position {
            pod: "u".into(),
            timestamp: "2026-08-20T10:00:00.000000003Z".into(),
            ordinal: 2,
        };
        assert_eq!(
            texts(&parse_chunk(
                log(&[(2, "old"), (4, "new")]).as_bytes(),
                NO_LIMIT,
                "u",
                Some(&old),
                None
            )),
            ["new"]
        );
    }

    #[test]
    fn invalid_utf8_and_lines_without_timestamp_are_tolerated() {
        let mut bytes = log(&[(1, "a")]).into_bytes();
        bytes.extend(b"unable to retrieve container logs for containerd://x\n2026-08-20T10:00:01Z \xff\xfe!\n");
        let page = parse_chunk(&bytes, NO_LIMIT, "u", None, None);
        assert_eq!(texts(&page), ["a", "\u{fffd}\u{fffd}!"]);
        assert!(page.untimed[0].starts_with("unable to retrieve"));
    }

    #[test]
    fn lines_before_since_still_advance_the_position() {
        let log = log(&[(1, "a")]);
        let page = parse_chunk(
            log.as_bytes(),
            NO_LIMIT,
            "u",
            None,
            crate::time::millis("2026-08-20T11:00:00Z"),
        );
        assert!(page.lines.is_empty() && page.position.is_some());
    }
}
