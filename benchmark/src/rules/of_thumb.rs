//! Two rules of thumb of the page, as `canary_judge::rules` has them. (The other two are much like the z-test and Argo's.)

use canary_judge::rules::{self, FirstFailure, LastAnswers};

use crate::{
    rule::{Call, Entry, Rule},
    stream::Ended,
};

pub const FIRST_FAILURE: Entry = Entry {
    name: "first failure",
    description: "Rolls back at the canary's first failure. It never promotes.",
    begin: |_| Some(Box::new(OfThumb { rule: FirstFailure, said: false })),
};

pub const LAST_ANSWERS: Entry = Entry {
    name: "last 50",
    description: "Rolls back when more than 5 % of the canary's last 50 answers have failed. It never promotes.",
    begin: |_| Some(Box::new(OfThumb { rule: LastAnswers::default(), said: false })),
};

struct OfThumb<R> {
    rule: R,
    said: bool,
}

impl<R: rules::Rule> Rule for OfThumb<R> {
    fn ended(&mut self, request: &Ended) {
        self.said |= self.rule.observe(request.sent.release, request.answer.failed, request.at());
    }

    fn call(&self) -> Option<Call> {
        self.said.then_some(Call::RollBack)
    }
}
