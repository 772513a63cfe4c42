//! Asks a person at the terminal. What is secret is not echoed, and however it ends, Ctrl-C included, the terminal is left
//! as it was.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _},
};

use registry_check::prompt::{Prompt, PromptError};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;

use crate::page::clean;

/// A person at a terminal.
#[derive(Debug)]
pub struct Terminal(File);

/// Longer than any password or token.
const LONGEST: usize = 64 * 1024;
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const DELETE: u8 = 127;

impl Terminal {
    /// The terminal that this program was started from, if a user looks at it. Standard input may be something else: the
    /// manifest, for one.
    pub fn of_this_program() -> Option<Box<dyn Prompt>> {
        if !io::stderr().is_terminal() {
            return None;
        }
        File::options()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .ok()
            .map(|file| Box::new(Self(file)) as Box<dyn Prompt>)
    }

    fn begin(&mut self, label: &str) -> io::Result<()> {
        write!(self.0, "{}: ", clean(label))
    }
}

impl Prompt for Terminal {
    /// Reads a line. The terminal echoes and edits it, and Ctrl-C ends the program.
    fn ask(&mut self, label: &str) -> Result<String, PromptError> {
        self.begin(label)?;
        let mut line = String::new();
        BufReader::new(&self.0).read_line(&mut line)?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn ask_secret(&mut self, label: &str) -> Result<SecretString, PromptError> {
        let quiet = Quiet::begin(&self.0)?;
        self.begin(label)?;
        let line = read_line(&mut self.0);
        let _ = self.0.write_all(b"\r\n");
        drop(quiet);
        let text = String::from_utf8(line?).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(SecretString::from(text))
    }
}

/// Reads keys up to the end of the line; the terminal does no editing of its own meanwhile.
fn read_line(terminal: &mut File) -> Result<Vec<u8>, PromptError> {
    let mut line = Vec::new();
    let mut key = [0];
    while terminal.read(&mut key)? > 0 {
        match key[0] {
            b'\r' | b'\n' | CTRL_D => break,
            CTRL_C => return Err(PromptError::Interrupted),
            CTRL_U => line.clear(),
            BACKSPACE | DELETE => erase(&mut line),
            byte if line.len() < LONGEST => line.push(byte),
            _ => {}
        }
    }
    Ok(line)
}

/// Removes the last character, which may be several bytes.
fn erase(line: &mut Vec<u8>) {
    let is_continuation = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    while line.pop().is_some_and(is_continuation) {}
}

/// The terminal without echo, line editing and signals, until this is dropped.
struct Quiet {
    // A handle of its own: the terminal is written to meanwhile.
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn begin(terminal: &File) -> io::Result<Self> {
        let terminal = terminal.try_clone()?;
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
