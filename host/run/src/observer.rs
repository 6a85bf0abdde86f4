//! Who watches a run: hears each entry as it is written, and may be asked.

use futures::future::BoxFuture;
use salve_core::effect::Effect;
use salve_core::journal::Entry;

/// The person at the terminal, or whoever stands in for one.
pub trait Observer: Send {
    /// A call begins that may take a while. Its entry follows.
    fn on_start(&mut self, effect: &Effect);
    /// An entry was written. For a write, [`Entry::Opened`] is heard before the first byte leaves.
    fn on_entry(&mut self, entry: &Entry);
    /// Asks; none when nobody is there.
    fn ask(&mut self, question: &str) -> BoxFuture<'static, Option<bool>>;
}

/// Nobody watches.
#[derive(Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn on_start(&mut self, _: &Effect) {}
    fn on_entry(&mut self, _: &Entry) {}
    fn ask(&mut self, _: &str) -> BoxFuture<'static, Option<bool>> {
        Box::pin(async { None })
    }
}
