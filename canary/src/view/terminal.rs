//! The terminal: set up for a picture, and restored whenever the program ends or stops.

mod keys;

use std::{
    env,
    fs::File,
    io::{self, IsTerminal, Read, Stdout},
    mem::ManuallyDrop,
    os::fd::AsFd,
    panic,
    process::exit,
    thread,
    time::{Duration, Instant},
};

use ratatui::{
    Frame, Terminal, TerminalOptions, Viewport,
    backend::CrosstermBackend,
    buffer::Buffer,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size},
    },
    layout::Rect,
};
use rustix::io::Errno;
use tokio::sync::mpsc;

use self::keys::Keys;

/// A command from the keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// `q` or Ctrl-C.
    Quit,
    /// `p` or space.
    Pause,
    /// `r`.
    Reset,
    /// `n` or Enter.
    Next,
    /// Ctrl-Z.
    Suspend,
}

/// The terminal, set up for a picture. Dropping it restores the terminal.
pub struct Screen {
    /// Never dropped: [`restore`] does all that its `drop` does, which panics where the terminal and standard error are
    /// gone.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    area: Rect,
    /// Whether to draw only ASCII.
    ascii: bool,
    inputs: mpsc::Receiver<Input>,
}

/// The exit code after a panic in any thread. It is the same as after a panic in `main`.
const PANICKED: i32 = 101;
/// The size if the terminal reports none, for example on some serial lines and in some containers.
const DEFAULT_SIZE: (u16, u16) = (80, 24);
/// The time before the next attempt to read keys if another program has made the terminal non-blocking.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// The reason why standard output cannot show a picture; `None` if it can.
pub fn unfit() -> Option<&'static str> {
    if !io::stdout().is_terminal() {
        return Some("standard output is not a terminal");
    }
    match env::var_os("TERM") {
        Some(kind) if kind != "dumb" && !kind.is_empty() => None,
        Some(kind) if kind == "dumb" => Some("TERM=dumb: this terminal can show only lines"),
        _ => Some("the variable TERM is empty or not set, so the type of the terminal is unknown"),
    }
}

impl Screen {
    /// Sets the terminal up: raw mode and the alternate screen.
    ///
    /// # Errors
    /// If standard output is not a terminal, or cannot be set up.
    pub fn open() -> io::Result<Self> {
        set_up()?;
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |message| {
            restore();
            print(message);
            exit(PANICKED); // otherwise another thread could draw again
        }));
        let area = area();
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        let terminal = Terminal::with_options(CrosstermBackend::new(io::stdout()), options)
            .inspect_err(|_| restore())?;
        let terminal = ManuallyDrop::new(terminal);
        Ok(Self { terminal, area, ascii: !is_utf8(|name| env::var(name).ok()), inputs: read_keys()? })
    }

    /// Waits for the next command from the keyboard; forever if no keys can be read. Cancel-safe.
    pub async fn input(&mut self) -> Input {
        match self.inputs.recv().await {
            Some(input) => input,
            None => std::future::pending().await,
        }
    }

    /// Draws a picture.
    ///
    /// # Errors
    /// If the terminal cannot be written.
    pub fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        let area = area();
        if area != self.area {
            self.terminal.resize(area)?;
            self.area = area;
        }
        let ascii = self.ascii;
        let draw = |frame: &mut Frame<'_>| {
            picture(frame);
            if ascii {
                to_ascii(frame.buffer_mut());
            }
        };
        self.terminal.draw(draw).map(|_| ())
    }

    /// Restores the terminal while the process is stopped.
    pub fn leave(&self) {
        restore();
    }

    /// Sets the terminal up again after the process was stopped, whatever its state is. The next picture is drawn
    /// completely.
    ///
    /// # Errors
    /// If the terminal cannot be set up.
    pub fn come_back(&mut self) -> io::Result<()> {
        let _ = disable_raw_mode(); // the terminal may or may not be in raw mode
        set_up()?;
        // this clears the screen; `clear` would ask for the cursor position, and the answer would arrive as keys
        self.terminal.resize(self.area)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn set_up() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen).inspect_err(|_| restore())
}

/// Whether an error of [`Screen::draw`] means that the window of the terminal was closed.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// Restores the terminal. Errors are ignored: the terminal may be gone.
fn restore() {
    let _ = disable_raw_mode();
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
}

fn area() -> Rect {
    let (columns, rows) = match size() {
        Ok((columns, rows)) if columns > 0 && rows > 0 => (columns, rows),
        _ => DEFAULT_SIZE,
    };
    Rect::new(0, 0, columns, rows)
}

/// Reads keys in a thread, as long as the process runs.
fn read_keys() -> io::Result<mpsc::Receiver<Input>> {
    let (sender, inputs) = mpsc::channel(64);
    thread::Builder::new().name("keys".to_owned()).spawn(move || {
        let Ok(mut terminal) = keyboard() else { return };
        let (mut keys, mut bytes) = (Keys::default(), [0; 256]);
        loop {
            let read = match terminal.read(&mut bytes) {
                Ok(0) => return,
                Ok(read) => read,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock => {
                        thread::sleep(RETRY_DELAY);
                        continue;
                    }
                    _ => return,
                },
            };
            let now = Instant::now();
            for input in bytes[..read].iter().filter_map(|byte| keys.parse(*byte, now)) {
                if sender.blocking_send(input).is_err() {
                    return;
                }
            }
        }
    })?;
    Ok(inputs)
}

/// Standard input if it is a terminal, otherwise the controlling terminal of the process.
fn keyboard() -> io::Result<File> {
    let input = io::stdin();
    if input.is_terminal() { Ok(input.as_fd().try_clone_to_owned()?.into()) } else { File::open("/dev/tty") }
}

/// Whether the locale uses UTF-8. The first variable that is set and not empty counts (POSIX, "Environment
/// Variables").
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    locale.is_some_and(|locale| locale.to_ascii_lowercase().replace('-', "").contains("utf8"))
}

/// Replaces characters outside ASCII by similar ASCII characters.
fn to_ascii(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if !cell.symbol().is_ascii() {
            cell.set_char(match cell.symbol() {
                "█" => '#',
                "▌" => '=',
                "│" | "▆" | "▇" => '|',
                "─" => '-',
                "▃" | "▄" | "▅" => ':',
                "▁" | "▂" | "…" => '.',
                _ => '?',
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_not_empty_is_the_locale() {
        let utf8 = |set: &[(&str, &str)]| {
            is_utf8(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(utf8(&[("LANG", "en_GB.UTF-8")]) && utf8(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")]));
        assert!(!utf8(&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")]));
        assert!(!utf8(&[("LANG", "de_DE.ISO-8859-1")]) && !utf8(&[]));
    }

    #[test]
    fn each_cell_keeps_its_position_in_ascii() {
        let mut buffer = Buffer::with_lines(["█▌│─… ä日x"]);
        to_ascii(&mut buffer);
        let row: String = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
        assert_eq!(row, "#=|-. ?? x");
    }
}
