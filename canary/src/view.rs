//! How a trial is shown: a module for each view. A view reads the trial and decides nothing.
//!
//! - [`picture`]: one drawing of it, as a widget. [`terminal`]: where it is drawn, and the keys pressed there.
//!   `live` draws it again and again, while requests go on.
//! - [`report`]: lines of JSON.
//! - `page`: what a browser shows.

pub(crate) mod live;
pub(crate) mod page;
pub mod picture;
pub mod report;
pub mod terminal;
