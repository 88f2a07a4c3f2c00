//! The judge of this project.

use std::time::Duration;

use canary_judge::{Decision, Judge, Outcome, Request, Settings};

use crate::{
    rule::{Call, Entry, Rule},
    stream::Ended,
};

pub const ENTRY: Entry = Entry {
    name: "canary",
    description: "This project's judge with its default settings ([verdict.md](verdict.md)). It looks after each request.",
    begin: |_| Some(Box::new(Ours { judge: Judge::new(Settings::default()), by_path: false })),
};

pub const BY_PATH: Entry = Entry {
    name: "canary `--by path`",
    description: "The same, told the path of each request: it compares each path with itself.",
    begin: |_| Some(Box::new(Ours { judge: Judge::new(Settings::default()), by_path: true })),
};

struct Ours {
    judge: Judge,
    by_path: bool,
}

const PODS: [&str; 4] = ["canary", "stable-1", "stable-2", "stable-3"];

impl Rule for Ours {
    fn ended(&mut self, request: &Ended) {
        let outcome = if request.answer.failed { Outcome::Failure } else { Outcome::Success };
        let seen = Request::new(Some(request.sent.release), outcome)
            .with_pod(Some(PODS[request.sent.pod]))
            .with_stratum(self.by_path.then_some(request.answer.path))
            .with_latency(Some(Duration::from_secs_f64(request.answer.latency)));
        self.judge.observe_numbered(request.number, Some(seen));
    }

    fn call(&self) -> Option<Call> {
        Some(match self.judge.decided()? {
            Decision::RollBack { .. } => Call::RollBack,
            _ => Call::Promote,
        })
    }
}
