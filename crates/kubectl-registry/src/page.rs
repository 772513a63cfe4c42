//! Text for a person: spans of text with a tone, put together to lines and tables, and turned into what a terminal gets. For a
//! pipe, `anstream` removes the colours.
//!
//! This is the one place where text becomes output. Whatever a span holds (a registry's words, an object's) it can move no
//! cursor and start no escape sequence: control characters are replaced here, and colours are added after that.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

/// What a piece of text is, which decides its colour on a terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tone {
    /// As the terminal has it.
    Plain,
    /// A title.
    Strong,
    /// What is there to be looked up, not to be read.
    Faint,
    /// In order.
    Good,
    /// Not in order.
    Bad,
    /// Not in order, and asked for; or not known.
    Doubt,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Strong => Style::new().bold(),
            Self::Faint => Style::new().dimmed(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Doubt => AnsiColor::Yellow.on_default(),
        }
    }
}

/// A piece of text in one tone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Span {
    tone: Tone,
    text: String,
}

/// Text in that tone.
pub fn span(tone: Tone, text: impl Into<String>) -> Span {
    Span { tone, text: text.into() }
}

/// Text as it is.
pub fn plain(text: impl Into<String>) -> Span {
    span(Tone::Plain, text)
}

/// Lines of text.
#[derive(Clone, Debug, Default)]
pub struct Page(Vec<Vec<Span>>);

impl Page {
    /// Adds a line.
    pub fn line(&mut self, spans: impl Into<Vec<Span>>) {
        self.0.push(spans.into());
    }

    /// Adds a line of plain text.
    pub fn text(&mut self, text: impl Into<String>) {
        self.line([plain(text)]);
    }

    /// Adds an empty line, unless the page is empty.
    pub fn gap(&mut self) {
        if !self.0.is_empty() {
            self.line([]);
        }
    }

    /// Adds rows whose columns are aligned, behind `indent` spaces. The last column is not padded.
    pub fn table(&mut self, indent: usize, rows: Vec<Vec<Span>>) {
        let widths = widths(&rows);
        for row in rows {
            let last = row.len().saturating_sub(1);
            let mut line = vec![plain(" ".repeat(indent))];
            for (column, cell) in row.into_iter().enumerate() {
                let missing = widths[column] - width(&cell);
                line.push(cell);
                if column < last {
                    line.push(plain(" ".repeat(missing + GUTTER)));
                }
            }
            self.line(line);
        }
    }

    /// Adds all lines of another page.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Returns the text, with colours.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for line in &self.0 {
            let mut rendered = String::new();
            for span in line {
                span.render(&mut rendered);
            }
            text.push_str(rendered.trim_end());
            text.push('\n');
        }
        text
    }

    /// Returns the text without colours.
    #[cfg(test)]
    pub fn without_colours(&self) -> String {
        anstream::adapter::strip_str(&self.render()).to_string()
    }
}

const GUTTER: usize = 2;

fn width(span: &Span) -> usize {
    span.text.chars().count()
}

fn widths(rows: &[Vec<Span>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widest = |column| rows.iter().filter_map(|row: &Vec<Span>| row.get(column)).map(width).max();
    (0..columns).map(|column| widest(column).unwrap_or_default()).collect()
}

impl Span {
    fn render(&self, text: &mut String) {
        let (style, clean) = (self.tone.style(), clean(&self.text));
        // Writing to a String cannot fail.
        let _ = write!(text, "{style}{clean}{style:#}");
    }
}

/// `text` without what a terminal acts on: control characters, and those that turn the direction of writing.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if acts_on_terminal(c) { '\u{fffd}' } else { c }).collect()
}

/// Whether a terminal does something else with this character than to show it.
pub fn acts_on_terminal(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(line: Vec<Span>) -> Page {
        let mut page = Page::default();
        page.line(line);
        page
    }

    #[test]
    fn page_without_colours_is_plain_text() {
        let page = page(vec![span(Tone::Good, "✓"), plain(" fine")]);
        assert_eq!(page.without_colours(), "✓ fine\n");
        assert_eq!(page.render(), "\u{1b}[32m✓\u{1b}[0m fine\n");
    }

    #[test]
    fn strips_escape_sequences_in_every_tone() {
        for evil in ["\u{1b}[2J", "\u{9b}31m", "a\rb", "a\nb", "\u{1b}]0;title\u{7}", "\u{202e}gpj.exe"] {
            for tone in [Tone::Plain, Tone::Bad] {
                let text = page(vec![span(tone, evil)]).without_colours();
                assert!(!text.trim_end_matches('\n').chars().any(acts_on_terminal), "{evil:?} → {text:?}");
            }
        }
        let coloured = page(vec![span(Tone::Bad, "\u{1b}[2J")]).render();
        assert_eq!(coloured, "\u{1b}[31m\u{fffd}[2J\u{1b}[0m\n");
    }

    #[test]
    fn aligns_columns_without_trailing_spaces() {
        let mut page = Page::default();
        page.table(2, vec![vec![plain("NAME"), plain("AGE")], vec![plain("ä"), plain("")]]);
        assert_eq!(page.without_colours(), "  NAME  AGE\n  ä\n");
    }
}
