//! `run`: time, output, and questions to the user.

use super::into_wit;
use crate::bindings::salve::cluster::{run as wit, types};
use crate::bounds;
use crate::state::State;
use salve_core::capability::run as core;

impl wit::Host for State {
    async fn now(&mut self) -> wasmtime::Result<u64> {
        self.call_infallible("run.now", core::Now {}).await
    }

    async fn sleep(&mut self, milliseconds: u64) -> wasmtime::Result<()> {
        self.call_infallible("run.sleep", core::Sleep { milliseconds }).await
    }

    async fn step(&mut self, name: String, title: String) -> wasmtime::Result<()> {
        self.call_infallible("run.step", core::Step { name, title }).await
    }

    async fn note(&mut self, level: wit::Level, text: String) -> wasmtime::Result<()> {
        let kept = bounds::truncate_note(&text);
        self.call_infallible("run.note", core::Note { level: level.into(), text }).await?;
        self.last_note = Some(kept);
        Ok(())
    }

    async fn ask(&mut self, question: String) -> wasmtime::Result<Result<bool, types::Error>> {
        Ok(into_wit(State::call(self, core::AskUser { question }).await?))
    }

    async fn deadline(&mut self) -> wasmtime::Result<u64> {
        Ok(self.run.deadline())
    }

    async fn observed(
        &mut self,
        problem: String,
        entry: u64,
    ) -> wasmtime::Result<Result<(), types::Error>> {
        Ok(into_wit(State::call(self, core::Observed { problem, entry }).await?))
    }

    async fn last_entry(&mut self) -> wasmtime::Result<u64> {
        Ok(self.run.last_entry())
    }
}

impl From<wit::Level> for core::Level {
    fn from(level: wit::Level) -> Self {
        match level {
            wit::Level::Info => Self::Info,
            wit::Level::Warning => Self::Warning,
        }
    }
}
