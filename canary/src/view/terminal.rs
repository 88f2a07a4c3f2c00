//! The terminal while a picture is in it: taken over whole, given back as it was on every way out.

mod keys;

use std::{
    env,
    fs::File,
    io::{self, IsTerminal, Read, Stdout},
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
use tokio::sync::mpsc;

use self::keys::Keys;

/// What a person does at the terminal.
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

/// A terminal taken over; dropping it gives it back.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    area: Rect,
    /// Whether only ASCII may be drawn.
    ascii: bool,
    inputs: mpsc::Receiver<Input>,
}

/// A panic anywhere ends the program with this, as one in `main` does.
const PANICKED: i32 = 101;
/// The size of a terminal that tells none, as some serial lines and containers do.
const USUAL_SIZE: (u16, u16) = (80, 24);
/// How long to wait before keys are read again, where another program has made reading not wait.
const PAUSE: Duration = Duration::from_millis(50);

/// Why standard output is nothing to draw a picture on; none if it is.
pub fn unfit() -> Option<&'static str> {
    if !io::stdout().is_terminal() {
        return Some("standard output is no terminal");
    }
    match env::var_os("TERM") {
        Some(kind) if kind != "dumb" && !kind.is_empty() => None,
        Some(kind) if kind == "dumb" => Some("TERM=dumb: this terminal can only show lines"),
        _ => Some("the variable TERM does not say which terminal it is"),
    }
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// If standard output is no terminal, or refuses.
    pub fn open() -> io::Result<Self> {
        take_over()?;
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |message| {
            give_back();
            tell(message);
            exit(PANICKED); // nothing may draw any more
        }));
        let area = area();
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        let terminal = Terminal::with_options(CrosstermBackend::new(io::stdout()), options)
            .inspect_err(|_| give_back())?;
        Ok(Self { terminal, area, ascii: !is_utf8(|name| env::var(name).ok()), inputs: read_keys()? })
    }

    /// Waits for what the person does next; where no keys can be read, none come. Cancel-safe.
    pub async fn input(&mut self) -> Input {
        match self.inputs.recv().await {
            Some(input) => input,
            None => std::future::pending().await,
        }
    }

    /// Draws a picture.
    ///
    /// # Errors
    /// If the terminal is gone.
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

    /// Gives the terminal back while the process is stopped.
    pub fn leave(&self) {
        give_back();
    }

    /// Takes the terminal over again after the process was stopped, whatever became of it meanwhile. All of the next
    /// picture is drawn.
    ///
    /// # Errors
    /// If the terminal refuses.
    pub fn come_back(&mut self) -> io::Result<()> {
        let _ = disable_raw_mode(); // it is not known whether it still is in that mode
        take_over()?;
        // clears it; `clear` would ask the terminal for its cursor, and the answer would come among the keys
        self.terminal.resize(self.area)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take_over() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen).inspect_err(|_| give_back())
}

/// Nothing can be done about a terminal that is gone.
fn give_back() {
    let _ = disable_raw_mode();
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
}

fn area() -> Rect {
    let (columns, rows) = match size() {
        Ok((columns, rows)) if columns > 0 && rows > 0 => (columns, rows),
        _ => USUAL_SIZE,
    };
    Rect::new(0, 0, columns, rows)
}

/// Reads keys in a thread of its own, for as long as the process runs.
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
                        thread::sleep(PAUSE);
                        continue;
                    }
                    _ => return,
                },
            };
            let now = Instant::now();
            for input in bytes[..read].iter().filter_map(|byte| keys.take(*byte, now)) {
                if sender.blocking_send(input).is_err() {
                    return;
                }
            }
        }
    })?;
    Ok(inputs)
}

/// Standard input, or the terminal that the process belongs to.
fn keyboard() -> io::Result<File> {
    let input = io::stdin();
    if input.is_terminal() { Ok(input.as_fd().try_clone_to_owned()?.into()) } else { File::open("/dev/tty") }
}

/// Whether the locale has UTF-8, by the first of its variables that says something (POSIX, "Environment Variables").
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    locale.is_some_and(|locale| locale.to_ascii_lowercase().replace('-', "").contains("utf8"))
}

/// Replaces what is not ASCII by what looks most like it.
fn to_ascii(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if !cell.symbol().is_ascii() {
            cell.set_char(match cell.symbol() {
                "█" => '#',
                "▌" => '=',
                "│" => '|',
                "─" => '-',
                "…" => '.',
                _ => '?',
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_says_something_is_the_locale() {
        let utf8 = |set: &[(&str, &str)]| {
            is_utf8(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(utf8(&[("LANG", "en_GB.UTF-8")]) && utf8(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")]));
        assert!(!utf8(&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")]));
        assert!(!utf8(&[("LANG", "de_DE.ISO-8859-1")]) && !utf8(&[]));
    }

    #[test]
    fn in_ascii_each_cell_keeps_its_place() {
        let mut buffer = Buffer::with_lines(["█▌│─… ä日x"]);
        to_ascii(&mut buffer);
        let row: String = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
        assert_eq!(row, "#=|-. ?? x");
    }
}
