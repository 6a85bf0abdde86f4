//! What containers have written, by the uid of their pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

/// One line of a container's log.
#[derive(Debug, Clone)]
pub struct Line {
    /// When the kubelet took it.
    pub time: Timestamp,
    /// The line, without its end.
    pub text: String,
}

/// All logs, shared with what was forked until either writes.
#[derive(Debug, Default, Clone)]
pub struct Logs(BTreeMap<(String, String), Arc<Vec<Line>>>);

impl Logs {
    /// Appends a line to the log of `container` in the pod of this uid.
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

    /// The log of a container, oldest line first.
    pub fn read(&self, pod_uid: &str, container: &str) -> &[Line] {
        self.0.get(&(pod_uid.to_owned(), container.to_owned())).map_or(&[], |log| log.as_slice())
    }

    /// Sorts every log by time, for lines that were written out of order.
    pub fn sort(&mut self) {
        for log in self.0.values_mut() {
            Arc::make_mut(log).sort_by_key(|line| line.time);
        }
    }
}
