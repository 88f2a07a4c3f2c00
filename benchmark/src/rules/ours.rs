//! The judge of this project.

use std::time::Duration;

use canary_judge::{Decision, Judge, Outcome, Release, Request, Settings, Tolerance};

use crate::{
    rule::{Call, Entry, Rule},
    stream::Ended,
};

pub const ENTRY: Entry = Entry {
    name: "canary",
    description: "This project's judge with its default settings ([verdict.md](verdict.md)). It looks after each request.",
    begin: |_| Some(Box::new(Ours { judge: Judge::new(Settings::default()), divides: false })),
};

pub const ALL_ON: Entry = Entry {
    name: "canary, all on",
    description: "The same with `--by path --slower-by 20% --warm-up 2m`: each path is compared with itself, a canary that is \
                  more than 20 % slower is rolled back, and the first two minutes of a pod are left out.",
    begin: |_| {
        let settings = Settings {
            slower_by: Tolerance::new(0.2).ok(),
            warm_up: Some(Duration::from_secs_f64(WARM_UP)),
            ..Settings::default()
        };
        Some(Box::new(Ours { judge: Judge::new(settings), divides: true }))
    },
};

pub const EPISODES: Entry = Entry {
    name: "canary, episodes",
    description: "The judge with its default settings and `--episodes 2s`: a roll-back also takes more episodes of failures of at \
                  most two seconds, and a difference greater than that between stable's pods.",
    begin: |_| {
        let settings = Settings { episodes: Some(Duration::from_secs(2)), ..Settings::default() };
        Some(Box::new(Ours { judge: Judge::new(settings), divides: false }))
    },
};

/// In seconds. The canary's pod starts with the run, and stable's have started long before.
const WARM_UP: f64 = 120.0;

struct Ours {
    judge: Judge,
    /// Whether requests are told with their paths.
    divides: bool,
}

const PODS: [&str; 4] = ["canary", "stable-1", "stable-2", "stable-3"];

impl Rule for Ours {
    fn ended(&mut self, request: &Ended) {
        let Ended { number, sent, answer } = *request;
        let outcome = if answer.failed { Outcome::Failure } else { Outcome::Success };
        let is_new = self.judge.settings().warm_up.is_some() && sent.at < WARM_UP;
        let seen = Request::new(Some(sent.release), outcome)
            .with_pod(Some(PODS[sent.pod]))
            .with_stratum(self.divides.then_some(answer.path))
            .with_sent(Some(Duration::from_secs_f64(sent.at)))
            .with_latency(Some(Duration::from_secs_f64(answer.latency)))
            .with_warm_up(is_new && sent.release == Release::Canary);
        self.judge.observe_numbered(number, Some(seen));
        if request.at() >= WARM_UP / 2.0 {
            self.judge.trust_warm_up();
        }
    }

    fn call(&self) -> Option<Call> {
        Some(match self.judge.decided()? {
            Decision::RollBack { .. } => Call::RollBack,
            _ => Call::Promote,
        })
    }
}
