//! Asks the user at a terminal.

use super::{HEADING, transcript};
use futures::future::BoxFuture;
use salve_core::sanitize::sanitized;
use salve_run::Prompt;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// Asks the questions of a run on stderr.
pub struct TerminalPrompt;

impl Prompt for TerminalPrompt {
    fn is_available(&self) -> bool {
        true
    }

    fn ask(&mut self, question: &str) -> BoxFuture<'static, Option<bool>> {
        // The next call shows it again.
        transcript::progress(None);
        let question = sanitized(question);
        transcript::important(&format!("{:14}{HEADING}{question}{HEADING:#} [y/N] ", ""));
        Box::pin(async {
            let answer = read_line().await?;
            Some(matches!(answer.trim(), "y" | "Y" | "yes"))
        })
    }
}

/// The line that is being read from stdin, on a thread of its own.
static READING: Mutex<Option<JoinHandle<Option<String>>>> = Mutex::const_new(None);

/// Reads a line from stdin on a separate thread, so that signals are handled meanwhile. Returns
/// `None` at the end of input.
///
/// # Guarantees
/// A line that is entered after a question expired, and before the next one is asked, answers
/// neither.
pub async fn read_line() -> Option<String> {
    next_line(&READING, || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).ok().filter(|n| *n > 0).map(|_| line)
    })
    .await
}

async fn next_line(
    reading: &Mutex<Option<JoinHandle<Option<String>>>>,
    read: impl FnOnce() -> Option<String> + Send + 'static,
) -> Option<String> {
    let mut reading = reading.lock().await;
    // mutant late-line-answers-next-question: reading.take_if(|line| line.is_finished()) ~>
    //     reading.take_if(|_| false)
    drop(reading.take_if(|line| line.is_finished()));
    let line = reading.get_or_insert_with(|| tokio::task::spawn_blocking(read)).await;
    *reading = None;
    line.ok().flatten()
}

/// How long a confirmation is waited for. What is displayed becomes outdated.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(300);

/// What was typed to confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    Line(String),
    /// Nothing within 5 min, by the local clock.
    Expired,
    /// The end of input, or the user interrupted.
    Nothing,
}

/// Waits for a line, at most for 5 min.
pub async fn confirmation(
    line: impl Future<Output = Option<String>>,
    now: impl Fn() -> SystemTime,
) -> Typed {
    let asked_at = now();
    let typed = tokio::select! {
        typed = tokio::time::timeout(CONFIRMATION_TIMEOUT, line) => typed,
        _ = tokio::signal::ctrl_c() => return Typed::Nothing,
    };
    // Timers stand still while the machine sleeps.
    let slept = now().duration_since(asked_at).is_ok_and(|waited| waited > CONFIRMATION_TIMEOUT);
    match typed {
        Err(_) => Typed::Expired,
        // mutant late-confirmation-accepted: if slept => Typed::Expired ~> if slept && false =>
        //     Typed::Expired
        Ok(Some(_)) if slept => Typed::Expired,
        Ok(Some(line)) => Typed::Line(line),
        Ok(None) => Typed::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test(start_paused = true)]
    async fn a_late_confirmation_does_not_count() {
        let began = SystemTime::now();
        for (seconds, expected) in [
            (0, Typed::Line("home".into())),
            (299, Typed::Line("home".into())),
            (301, Typed::Expired),
        ] {
            let typed = async {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Some("home".to_owned())
            };
            assert_eq!(confirmation(typed, || began).await, expected, "after {seconds} s");
            // The machine slept meanwhile, and its timers did not advance.
            let moments = std::cell::Cell::new(0);
            let now = || began + Duration::from_secs(seconds * moments.replace(1));
            let typed = async { Some("home".to_owned()) };
            assert_eq!(confirmation(typed, now).await, expected, "after {seconds} s asleep");
        }
        assert_eq!(confirmation(async { None }, || began).await, Typed::Nothing);
    }

    #[tokio::test]
    async fn a_line_entered_between_two_questions_answers_neither() {
        let reading = Mutex::const_new(None);
        let (enter, lines) = mpsc::channel::<&str>();
        let lines = std::sync::Arc::new(std::sync::Mutex::new(lines));
        let read = || {
            let lines = lines.clone();
            move || lines.lock().unwrap().recv().ok().map(str::to_owned)
        };
        let expire = async || {
            tokio::select! {
                biased;
                line = next_line(&reading, read()) => panic!("{line:?}"),
                () = tokio::task::yield_now() => {}
            }
        };
        // A line that is entered while the next question is displayed answers that one.
        expire().await;
        enter.send("to the second").unwrap();
        assert_eq!(next_line(&reading, read()).await.as_deref(), Some("to the second"));
        // One that is entered before it does not.
        expire().await;
        enter.send("late").unwrap();
        while !reading.lock().await.as_ref().is_some_and(JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        enter.send("to the fourth").unwrap();
        assert_eq!(next_line(&reading, read()).await.as_deref(), Some("to the fourth"));
    }
}
