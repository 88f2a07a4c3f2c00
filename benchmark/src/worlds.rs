//! See `world.rs`.

pub mod alike;
pub mod episodes;
pub mod incidents;
pub mod latency;
pub mod little;
pub mod paths;
pub mod time;
pub mod worse;
