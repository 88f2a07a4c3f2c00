//! Little traffic, for a day.

use crate::world::{Truth, World};

pub fn worlds() -> Vec<World> {
    vec![
        World::constant("60 requests an hour, both at 1 %", Truth::Alike, 0.01, 0.01)
            .with_requests_an_hour(60),
        World::constant("60 requests an hour, always against 1 %", Truth::Worse, 0.01, 1.0)
            .with_requests_an_hour(60),
        World::constant("200 requests an hour, both at 1 %", Truth::Alike, 0.01, 0.01)
            .with_requests_an_hour(200),
        World::constant("200 requests an hour, 10 % against 1 %", Truth::Worse, 0.01, 0.1)
            .with_requests_an_hour(200),
    ]
}
