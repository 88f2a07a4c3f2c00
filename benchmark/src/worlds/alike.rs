//! Both releases are alike at all times.

use crate::world::{Truth, World};

pub fn worlds() -> Vec<World> {
    vec![
        World::constant("both at 0.1 %", Truth::Alike, 0.001, 0.001),
        World::constant("both at 1 %", Truth::Alike, 0.01, 0.01),
        World::constant("both at 5 %", Truth::Alike, 0.05, 0.05),
    ]
}
