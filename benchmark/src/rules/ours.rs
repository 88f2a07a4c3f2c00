//! The judge of this project.

use canary_judge::{Decision, Judge, Outcome, Request, Settings};

use crate::{
    rule::{Call, Entry, Rule},
    stream::Ended,
};

pub const ENTRY: Entry = Entry {
    name: "canary",
    description: "This project's judge with its default settings ([verdict.md](verdict.md)). It looks after each request.",
    begin: |_| Some(Box::new(Ours(Judge::new(Settings::default())))),
};

struct Ours(Judge);

const PODS: [&str; 4] = ["canary", "stable-1", "stable-2", "stable-3"];

impl Rule for Ours {
    fn ended(&mut self, request: &Ended) {
        let outcome = if request.answer.failed { Outcome::Failure } else { Outcome::Success };
        let pod = Some(PODS[request.sent.pod]);
        self.0.observe_numbered(
            request.number,
            Some(Request { release: Some(request.sent.release), outcome, pod }),
        );
    }

    fn call(&self) -> Option<Call> {
        Some(match self.0.decided()? {
            Decision::RollBack { .. } => Call::RollBack,
            _ => Call::Promote,
        })
    }
}
