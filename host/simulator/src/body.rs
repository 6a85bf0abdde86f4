//! Response bodies: a single chunk for documents, a stream for watches and followed logs.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::api::log::Follow;
use crate::api::watch::Watch;
use crate::simulator::lock_world;
use crate::world::World;

/// The body of a response.
pub struct Body(State);

enum State {
    Once(Option<Bytes>),
    Watch(Box<Watch>, Arc<Mutex<World>>),
    Follow(Box<Follow>, Arc<Mutex<World>>),
}

/// The error of a connection that a fault dropped.
#[derive(Debug, thiserror::Error)]
#[error("connection reset by the simulated API server")]
pub struct ConnectionReset;

impl Body {
    pub(crate) fn once(bytes: Bytes) -> Self {
        Body(State::Once(Some(bytes)))
    }

    pub(crate) fn watch(watch: Box<Watch>, world: Arc<Mutex<World>>) -> Self {
        Body(State::Watch(watch, world))
    }

    pub(crate) fn follow(follow: Follow, world: Arc<Mutex<World>>) -> Self {
        Body(State::Follow(Box::new(follow), world))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = ConnectionReset;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectionReset>>> {
        let (chunk, mut world) = match &mut self.0 {
            State::Once(bytes) => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            State::Watch(watch, world) => {
                let world = lock_world(world);
                (watch.next_chunk(&world), world)
            }
            State::Follow(follow, world) => {
                let world = lock_world(world);
                (follow.next_chunk(&world), world)
            }
        };
        match chunk {
            None => Poll::Ready(None),
            Some(bytes) if bytes.is_empty() => {
                world.register_waker(context.waker().clone());
                Poll::Pending
            }
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, State::Once(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::Once(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            State::Watch(..) | State::Follow(..) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            State::Once(_) => "Body::Once",
            State::Watch(..) => "Body::Watch",
            State::Follow(..) => "Body::Follow",
        })
    }
}
