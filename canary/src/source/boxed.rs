//! A source of any kind, for commands.

use std::{fmt, pin::Pin};

use super::{Asked, FailingAnswer, Seen, Source};

/// A source of any kind.
pub struct AnySource(Box<dyn BoxedSource>);

impl AnySource {
    pub(super) fn new(source: impl Source + Sync + 'static) -> Self {
        Self(Box::new(source))
    }
}

impl Source for AnySource {
    async fn next(&mut self) -> Option<Seen> {
        self.0.next().await
    }

    fn pause(&self, paused: bool) {
        self.0.pause(paused);
    }

    fn has_answered(&self) -> bool {
        self.0.has_answered()
    }

    fn last_failure(&self) -> Option<FailingAnswer> {
        self.0.last_failure()
    }

    fn hint(&self) -> Option<String> {
        self.0.hint()
    }

    fn asked(&self) -> Option<Asked> {
        self.0.asked()
    }
}

impl fmt::Debug for AnySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnySource")
    }
}

/// [`Source`] with a boxed future, because a trait with an `async fn` cannot be a trait object.
trait BoxedSource: Send + Sync {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Seen>> + Send + '_>>;
    fn pause(&self, paused: bool);
    fn has_answered(&self) -> bool;
    fn last_failure(&self) -> Option<FailingAnswer>;
    fn hint(&self) -> Option<String>;
    fn asked(&self) -> Option<Asked>;
}

impl<S: Source + Sync> BoxedSource for S {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Seen>> + Send + '_>> {
        Box::pin(Source::next(self))
    }

    fn pause(&self, paused: bool) {
        Source::pause(self, paused);
    }

    fn has_answered(&self) -> bool {
        Source::has_answered(self)
    }

    fn last_failure(&self) -> Option<FailingAnswer> {
        Source::last_failure(self)
    }

    fn hint(&self) -> Option<String> {
        Source::hint(self)
    }

    fn asked(&self) -> Option<Asked> {
        Source::asked(self)
    }
}
