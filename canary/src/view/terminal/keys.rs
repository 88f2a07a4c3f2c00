//! Converts the bytes from a terminal to commands.
//!
//! Arrow keys, function keys, mouse events and answers of the terminal are sequences that start with ESC
//! (ECMA-48; xterm's "Control Sequences"). All of them are ignored. This also works if a sequence arrives in
//! parts: over a network, the rest may arrive later than its ESC.

use std::time::{Duration, Instant};

use super::Input;

/// The maximum time between two bytes of a sequence. An ESC without another byte in this time is the Escape key.
const MAX_GAP: Duration = Duration::from_secs(1);

const CTRL_C: u8 = 0x03;
const BELL: u8 = 0x07;
const CTRL_Z: u8 = 0x1a;
const ESC: u8 = 0x1b;
/// The number of bytes after `ESC [ M` in the oldest format of mouse reports.
const MOUSE_BYTES: u8 = 3;

/// The parser of the bytes.
#[derive(Debug, Default)]
pub(super) struct Keys {
    state: State,
    last: Option<Instant>,
}

/// The context of the next byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Key,
    /// After ESC.
    Escape,
    /// After `ESC [`; `begun` after at least one more byte.
    Control { begun: bool },
    /// After `ESC O`.
    Function,
    /// A text that ends with BEL or `ESC \`.
    Text,
    /// This many more bytes belong to the sequence.
    Bytes(u8),
}

impl Keys {
    /// Parses the next byte, which arrived `now`. Returns its command, if it has one.
    pub(super) fn parse(&mut self, byte: u8, now: Instant) -> Option<Input> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) > MAX_GAP) {
            self.state = State::Key;
        }
        self.last = Some(now);
        let (next, input) = match (self.state, byte) {
            (_, CTRL_C) => (State::Key, Some(Input::Quit)),
            (_, CTRL_Z) => (State::Key, Some(Input::Suspend)),
            (_, ESC) => (State::Escape, None),
            (State::Key, key) => (State::Key, meaning(key)),
            (State::Escape, b'[') => (State::Control { begun: false }, None),
            (State::Escape, b'O') | (State::Function, b'0'..=b'9' | b';') => (State::Function, None),
            (State::Text, BELL) => (State::Key, None),
            // OSC, DCS, PM, APC, SOS
            (State::Escape, b']' | b'P' | b'^' | b'_' | b'X') | (State::Text, _) => (State::Text, None),
            (State::Control { begun: false }, b'M') => (State::Bytes(MOUSE_BYTES), None),
            // the Linux console sends ESC [ [ A for F1
            (State::Control { begun: false }, b'[') => (State::Bytes(1), None),
            (State::Control { .. }, b' '..=b'?') => (State::Control { begun: true }, None),
            (State::Bytes(more @ 2..), _) => (State::Bytes(more - 1), None),
            // Alt and a key, or the last byte of a sequence
            (State::Escape | State::Control { .. } | State::Function | State::Bytes(_), _) => {
                (State::Key, None)
            }
        };
        self.state = next;
        input
    }
}

fn meaning(key: u8) -> Option<Input> {
    match key {
        b'q' | b'Q' => Some(Input::Quit),
        b'p' | b'P' | b' ' => Some(Input::Pause),
        b'r' | b'R' => Some(Input::Reset),
        b'n' | b'N' | b'\r' | b'\n' => Some(Input::Next),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands in these bytes, with the time `apart` between two bytes.
    fn inputs(bytes: &[u8], apart: Duration) -> Vec<Input> {
        let (mut keys, mut now) = (Keys::default(), Instant::now());
        let mut parse = |byte: &u8| {
            now += apart;
            keys.parse(*byte, now)
        };
        bytes.iter().filter_map(&mut parse).collect()
    }

    #[test]
    fn letters_are_keys() {
        let all = [Input::Quit, Input::Pause, Input::Pause, Input::Reset, Input::Next, Input::Next];
        assert_eq!(inputs(b"qp rn\r", Duration::ZERO), all);
        assert_eq!(inputs(b"\x03\x1a", Duration::ZERO), [Input::Quit, Input::Suspend]);
        assert_eq!(inputs("äxyz\u{301}".as_bytes(), Duration::ZERO), []);
    }

    #[test]
    fn sequences_are_ignored_in_one_part_and_in_many() {
        for sequence in [
            "\x1b[A",                         // up
            "\x1bOB",                         // down, in the mode that full-screen programs use
            "\x1bOP\x1bOQ\x1bOR",             // F1, F2, F3
            "\x1b[1;5R",                      // F3 with Ctrl; the same bytes report the cursor position
            "\x1b[15~\x1b[3~\x1b[5;2~",       // F5, Delete, Shift with Page Up
            "\x1b[[A\x1b[[B",                 // F1, F2 of Linux's console
            "\x1b[<64;10;20M\x1b[<0;3;4m",    // the mouse
            "\x1b[Mqpr",                      // the mouse, in the oldest format
            "\x1b[32;10;20M",                 // the mouse, as urxvt reports it
            "\x1b\x1b[A",                     // Alt and up
            "\x1bq\x1bp",                     // Alt and a letter
            "\x1b[200~\x1b[201~",             // an empty paste
            "\x1b[?1;2c\x1b[>0;276;0c",       // reports of the terminal type
            "\x1b[I\x1b[O",                   // focus
            "\x1b]11;rgb:1e1e/1e1e/1e1e\x07", // a colour
            "\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\",
            "\x1bP1+r636f=323536\x1b\\", // a capability
            "\x1b[99999999;;;;999 q",
        ] {
            for apart in [Duration::ZERO, Duration::from_millis(2), MAX_GAP] {
                assert_eq!(inputs(sequence.as_bytes(), apart), [], "{sequence:?}, {apart:?} apart");
                let then_p = [sequence.as_bytes(), b"p"].concat();
                assert_eq!(inputs(&then_p, apart), [Input::Pause], "{sequence:?} and p, {apart:?} apart");
            }
        }
    }

    #[test]
    fn keys_work_after_a_single_escape() {
        assert_eq!(inputs(b"\x1b", Duration::ZERO), []);
        assert_eq!(inputs(b"\x1bp", MAX_GAP * 2), [Input::Pause]);
        assert_eq!(inputs(b"\x1b]p", MAX_GAP * 2), [Input::Pause], "a sequence that never ended");
    }

    #[test]
    fn ctrl_c_quits_even_within_a_sequence() {
        for begun in ["\x1b", "\x1b[", "\x1b[1;", "\x1bO", "\x1b]11;", "\x1b[M"] {
            let bytes = [begun.as_bytes(), &[CTRL_C]].concat();
            assert_eq!(inputs(&bytes, Duration::ZERO), [Input::Quit], "{begun:?}");
        }
    }
}
