//! Writes generated documentation to standard output: the chart's values.yaml, the table in its README, the reference
//! of the resources, and the page with all messages. `make generate` puts each in its place.

mod cel;
mod chart;
mod messages;
mod reference;
mod schema;
mod text;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::schema::Schema;

/// Writes documentation from schemas.
#[derive(Debug, Parser)]
enum DocgenCommand {
    /// The chart's values.yaml, from its values.schema.json.
    Values {
        /// The path of the schema.
        schema: PathBuf,
    },
    /// The chart's README with its table of values.
    Readme {
        /// The path of the schema.
        schema: PathBuf,
        /// The path of the current README.
        readme: PathBuf,
    },
    /// docs/reference.md, from the types.
    Reference,
    /// docs/messages.md, from the functions and rules that make the messages.
    Messages {
        /// The path of the rendered chart.
        installed: PathBuf,
    },
}

fn main() -> Result<()> {
    let text = match DocgenCommand::parse() {
        DocgenCommand::Values { schema } => chart::values_yaml(&read(&schema)?)?,
        DocgenCommand::Readme { schema, readme } => chart::readme(&read(&schema)?, &read_text(&readme)?)?,
        DocgenCommand::Reference => reference::page()?,
        DocgenCommand::Messages { installed } => messages::page(&read_text(&installed)?)?,
    };
    print(&text);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn print(text: &str) {
    print!("{text}");
}

fn read(path: &PathBuf) -> Result<Schema> {
    serde_json::from_str(&read_text(path)?).with_context(|| format!("reading {} as a schema", path.display()))
}

fn read_text(path: &PathBuf) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
