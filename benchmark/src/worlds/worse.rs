//! The canary fails more than stable at all times.

use crate::world::{Truth, World};

pub fn worlds() -> Vec<World> {
    vec![
        World::constant("always against 0.1 %", Truth::Worse, 0.001, 1.0),
        World::constant("10 % against 1 %", Truth::Worse, 0.01, 0.1),
        World::constant("5 % against 0.1 %", Truth::Worse, 0.001, 0.05),
        World::constant("2 % against 0.1 %", Truth::Worse, 0.001, 0.02),
        World::constant("2 % against 1 %", Truth::Worse, 0.01, 0.02),
        World::constant("1 % against 0.1 %", Truth::Between, 0.001, 0.01),
        World::constant("0.5 % against 0.1 %", Truth::Between, 0.001, 0.005),
    ]
}
