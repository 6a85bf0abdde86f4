//! Writes to stderr on a thread of its own: a terminal that is stopped, or a pipe that is not read,
//! must not stop a run.

use super::{MUTED, plural};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Limit of the text that waits to be written, in bytes. Further lines are omitted.
const MAX_WAITING: usize = 1 << 20;
/// How long [`flush`] waits for a writer that makes no progress.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Without a terminal: after how long without output the current call is printed.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// What waits to be written.
#[derive(Default)]
struct Queue {
    texts: VecDeque<String>,
    bytes: usize,
    /// Lines that there was no room for.
    omitted: usize,
    /// The progress line to show, or none, unless it is shown already. Only the latest counts.
    progress: Option<Option<String>>,
    /// How many texts were written.
    written: u64,
    is_writing: bool,
}

#[derive(Default)]
struct Transcript {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Transcript {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.queue());
        self.changed.notify_all();
    }
}

impl Queue {
    /// Adds a text, unless it does not fit.
    fn push(&mut self, text: String) {
        if self.bytes + text.len() > MAX_WAITING {
            self.omitted += 1;
        } else {
            self.push_always(text);
        }
    }

    fn push_always(&mut self, text: String) {
        self.bytes += text.len();
        self.texts.push_back(text);
    }

    /// Removes the next text. What was omitted follows the texts before it.
    fn pop(&mut self) -> Option<String> {
        let Some(text) = self.texts.pop_front() else {
            let omitted = std::mem::take(&mut self.omitted);
            return (omitted > 0).then(|| {
                format!(
                    "{MUTED}… {} omitted while nothing could be written: `salve report` has \
                     everything{MUTED:#}\n",
                    plural(omitted, "line")
                )
            });
        };
        self.bytes -= text.len();
        Some(text)
    }

    fn is_written(&self) -> bool {
        self.texts.is_empty() && self.omitted == 0 && self.progress.is_none() && !self.is_writing
    }
}

/// Prints a line. Returns at once, and omits the line if too much waits to be written.
pub fn line(text: &str) {
    transcript().change(|queue| queue.push(format!("{text}\n")));
}

/// Prints a text that must not be omitted, such as a question. Returns at once.
pub fn important(text: &str) {
    transcript().change(|queue| queue.push_always(text.to_owned()));
}

/// Shows this progress line below the output, if there is a terminal; None removes it.
pub fn progress(message: Option<String>) {
    transcript().change(|queue| queue.progress = Some(message));
}

/// Waits until everything is written, or the writer makes no progress for five seconds.
pub fn flush() {
    let transcript = transcript();
    let mut queue = transcript.queue();
    while !queue.is_written() {
        let before = queue.written;
        let waited = transcript.changed.wait_timeout_while(queue, FLUSH_TIMEOUT, |queue| {
            !queue.is_written() && queue.written == before
        });
        let (now, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return;
        }
        queue = now;
    }
}

/// Collects what one event logs.
#[derive(Default)]
pub struct LogLine(Vec<u8>);

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            line(String::from_utf8_lossy(&self.0).trim_end());
        }
    }
}

fn transcript() -> &'static Transcript {
    static TRANSCRIPT: OnceLock<Arc<Transcript>> = OnceLock::new();
    TRANSCRIPT.get_or_init(|| {
        let transcript = Arc::<Transcript>::default();
        let shared = transcript.clone();
        // Without a thread, nothing is printed, but the run goes on.
        let thread = std::thread::Builder::new().name("transcript".into());
        drop(thread.spawn(move || Writer::new().run(&shared)));
        transcript
    })
}

/// The thread that writes.
struct Writer {
    bar: ProgressBar,
    /// The call in progress.
    progress: Option<String>,
    /// When the latest text was written, or the first call after a pause began.
    quiet_since: Instant,
    is_terminal: bool,
}

impl Writer {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("    {spinner} {wide_msg} {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        let is_terminal = io::stderr().is_terminal();
        Self { bar, progress: None, quiet_since: Instant::now(), is_terminal }
    }

    fn run(mut self, transcript: &Transcript) {
        loop {
            let mut queue = transcript.queue();
            let (text, progress) = loop {
                match (queue.pop().or_else(|| self.heartbeat()), queue.progress.take()) {
                    (None, None) => {
                        let waited = transcript.changed.wait_timeout(queue, HEARTBEAT);
                        queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                    }
                    next => break next,
                }
            };
            queue.is_writing = true;
            drop(queue);
            if let Some(text) = text {
                self.write(&text);
            }
            if let Some(progress) = progress {
                self.show(progress);
            }
            transcript.change(|queue| {
                queue.written += 1;
                queue.is_writing = false;
            });
        }
    }

    fn write(&mut self, text: &str) {
        // A closed terminal must not stop the run before it releases what it changed.
        self.bar.suspend(|| drop(write!(anstream::stderr(), "{text}")));
        self.quiet_since = Instant::now();
    }

    fn show(&mut self, progress: Option<String>) {
        match &progress {
            None => self.bar.finish_and_clear(),
            Some(message) => {
                if self.bar.is_finished() {
                    self.bar.reset();
                }
                self.bar.set_message(message.clone());
                self.bar.enable_steady_tick(Duration::from_millis(120));
            }
        }
        if self.progress.is_none() {
            self.quiet_since = Instant::now();
        }
        self.progress = progress;
    }

    /// Returns what to print if nothing else was printed for long.
    fn heartbeat(&self) -> Option<String> {
        let message = self.progress.as_ref().filter(|_| !self.is_terminal)?;
        let quiet = self.quiet_since.elapsed();
        (quiet >= HEARTBEAT).then(|| format!("{:14}{MUTED}still running: {message}{MUTED:#}\n", ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_to_be_written_is_bounded_and_in_order() {
        let mut queue = Queue::default();
        let long = "x".repeat(MAX_WAITING / 4);
        for _ in 0..6 {
            queue.push(long.clone());
        }
        queue.push_always("a question".into());
        assert!(queue.bytes <= MAX_WAITING + long.len(), "{}", queue.bytes);
        for _ in 0..4 {
            assert_eq!(queue.pop().as_ref(), Some(&long));
        }
        assert_eq!(queue.pop().as_deref(), Some("a question"));
        let note = queue.pop().unwrap();
        assert!(note.contains("2 lines omitted") && note.contains("`salve report`"), "{note}");
        assert_eq!((queue.pop(), queue.bytes), (None, 0));
        queue.push("again".into());
        assert_eq!(queue.pop().as_deref(), Some("again"));
    }
}
