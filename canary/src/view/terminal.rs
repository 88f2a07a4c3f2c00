//! The terminal while a picture is in it: taken over whole, given back as it was on every way out.

use std::{io, panic, process::exit, thread};

use ratatui::{
    DefaultTerminal, Frame,
    crossterm::{
        cursor::Show,
        event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
        execute,
    },
};
use tokio::sync::mpsc;

/// What a person does at the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// `q`, Escape or Ctrl-C.
    Quit,
    /// `p` or space.
    Pause,
    /// `r`.
    Reset,
    /// `n` or Enter.
    Next,
    /// Another size: draw anew.
    Resize,
}

/// A terminal taken over; dropping it gives it back.
pub struct Screen {
    terminal: DefaultTerminal,
    inputs: mpsc::Receiver<Input>,
}

/// A panic anywhere ends the program with this, as one in `main` does.
const PANICKED: i32 = 101;

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// If standard output is no terminal, or refuses.
    pub fn open() -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        // ratatui's hook gives the terminal back and prints the message; then nothing may draw any more
        let restore_and_tell = panic::take_hook();
        panic::set_hook(Box::new(move |message| {
            restore_and_tell(message);
            show_cursor();
            exit(PANICKED);
        }));
        let (sender, inputs) = mpsc::channel(64);
        thread::Builder::new().name("keys".to_owned()).spawn(move || {
            while let Ok(event) = event::read() {
                if let Some(input) = meaning(&event)
                    && sender.blocking_send(input).is_err()
                {
                    break;
                }
            }
        })?;
        Ok(Self { terminal, inputs })
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
        self.terminal.draw(picture).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
        show_cursor();
    }
}

fn show_cursor() {
    let _ = execute!(io::stdout(), Show); // nothing can be done about a terminal that is gone
}

fn meaning(event: &Event) -> Option<Input> {
    match event {
        Event::Resize(..) => Some(Input::Resize),
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Input::Quit),
            _ if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => None,
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Input::Quit),
            KeyCode::Char('p' | 'P' | ' ') => Some(Input::Pause),
            KeyCode::Char('r' | 'R') => Some(Input::Reset),
            KeyCode::Char('n' | 'N') | KeyCode::Enter => Some(Input::Next),
            _ => None,
        },
        _ => None,
    }
}
