//! Something that both releases need fails, or gets worse and better again.

use std::f64::consts::PI;

use crate::{
    stream::Answer,
    world::{Course, Truth, World},
};

/// Both releases fail at a rate that depends on the time.
fn of_time(name: &'static str, rate: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static) -> World {
    World::new(name, Truth::Alike, move |_| -> Course {
        Box::new(move |sent, rng| Answer::failing(rate(sent.at), rng))
    })
}

/// `part` of all requests fails for so many seconds, beginning in the third minute. Outside, 0.1 % fail.
fn incident(seconds: f64, part: f64) -> impl Fn(f64) -> f64 + Copy {
    move |at| if (150.0..150.0 + seconds).contains(&at) { part } else { 0.001 }
}

pub fn worlds() -> Vec<World> {
    vec![
        of_time("all of 30 s fail", incident(30.0, 1.0)),
        of_time("a fifth of 5 minutes fails", incident(300.0, 0.2)),
        of_time("all of 5 s fail, every minute", |at| if at % 60.0 < 5.0 { 1.0 } else { 0.001 }),
        of_time("drift from 0 to 6 % and back, every 20 minutes", |at| {
            0.03 * (1.0 - (2.0 * PI * at / 1200.0).cos())
        }),
    ]
}
