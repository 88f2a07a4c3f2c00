//! The styles of the picture, with and without colours.

use std::env;

use ratatui::style::{Color, Modifier, Style};

use crate::source::Attribution;
use canary_judge::Release;

/// The styles of the picture. Colours only repeat what the text and other styles show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    /// Whether to use colours.
    pub colour: bool,
}

impl Palette {
    /// Uses colours, unless the variable `NO_COLOR` is set and not empty (<https://no-color.org>).
    pub fn from_environment() -> Self {
        Self { colour: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    fn fg(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    pub(super) fn attribution(self, attribution: &Attribution) -> Style {
        self.fg(match attribution {
            Attribution::Release(Release::Stable) => Color::Cyan,
            Attribution::Release(Release::Canary) => Color::Yellow,
            Attribution::Other(_) => Color::Magenta,
            Attribution::Unnamed | Attribution::NoAnswer => Color::Red,
        })
    }

    pub(super) fn failure(self) -> Style {
        self.fg(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn changed(self) -> Style {
        self.fg(Color::Green).add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
    }
}
