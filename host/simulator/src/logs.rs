//! Container logs, by pod UID.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

/// One line of a container's log.
#[derive(Debug, Clone)]
pub struct Line {
    /// The kubelet's timestamp.
    pub time: Timestamp,
    /// The line without its newline.
    pub text: String,
}

/// The logs of all containers. Forks of a cluster share them until one of them writes.
#[derive(Debug, Default, Clone)]
pub struct Logs(BTreeMap<(String, String), Arc<Vec<Line>>>);

impl Logs {
    /// Appends a line to the log of a container.
    pub fn write(
        &mut self,
        pod_uid: &str,
        container: &str,
        time: Timestamp,
        text: impl Into<String>,
    ) {
        let log = self.0.entry((pod_uid.to_owned(), container.to_owned())).or_default();
        Arc::make_mut(log).push(Line { time, text: text.into() });
    }

    /// Returns the log of a container, oldest line first.
    pub fn read(&self, pod_uid: &str, container: &str) -> &[Line] {
        self.0.get(&(pod_uid.to_owned(), container.to_owned())).map_or(&[], |log| log.as_slice())
    }

    /// Sorts every log by time, after lines were written out of order.
    pub fn sort(&mut self) {
        for log in self.0.values_mut() {
            Arc::make_mut(log).sort_by_key(|line| line.time);
        }
    }
}
