//! The console under the name by which kubectl finds it: `kubectl registry console`.

use std::process::ExitCode;

#[path = "../main.rs"]
mod program;

fn main() -> ExitCode {
    program::main()
}
