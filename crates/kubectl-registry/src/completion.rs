//! Completions: scripts for shells, and answers for kubectl, which asks a program named `kubectl_complete-registry`.

use std::{ffi::OsString, fmt::Write as _, path::Path};

use clap::CommandFactory as _;
use clap_complete::{Shell, engine::complete};

use crate::{cli::Cli, page::clean};

/// The program's name, as the shell knows it.
const PROGRAM: &str = "kubectl-registry";
/// Cobra's way of saying that the shell may complete file names itself; and that it may not.
const DEFAULT: &str = ":0";
const NO_FILES: &str = ":4";

/// The script for a shell.
pub fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut script);
    script
}

/// What may stand in the place of the last word, in the form that kubectl reads (Cobra's `__complete`): a candidate and its
/// description a line, then what the shell may do besides.
pub fn candidates(words: Vec<OsString>) -> String {
    let mut all = vec![OsString::from(PROGRAM)];
    all.extend(words);
    if all.len() == 1 {
        all.push(OsString::new());
    }
    let last = all.len() - 1;
    let wants_file =
        all[last - 1] == "-f" || all[last - 1] == "--filename" || all[last - 1] == "--kubeconfig";
    if wants_file {
        return format!("{DEFAULT}\n");
    }
    let found = complete(&mut Cli::command(), all, last, None::<&Path>).unwrap_or_default();
    let mut text = String::new();
    for candidate in found.iter().filter(|candidate| !candidate.is_hide_set()) {
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let value = candidate.get_value().to_string_lossy();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}\t{}", clean(&value), clean(&help));
    }
    text + NO_FILES + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(words: &[&str]) -> String {
        candidates(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn kubectl_is_offered_commands_flags_and_values() {
        let commands = offered(&[""]);
        assert!(commands.contains("validate\tCheck the registries"), "{commands}");
        assert!(!commands.contains("__complete") && commands.ends_with("\n:4\n"), "{commands}");
        assert!(offered(&["list", "--all"]).contains("--all-namespaces\t"));
        let values = offered(&["list", "-o", ""]);
        assert!(values.contains("wide\t") && values.contains("json\t"), "{values}");
        assert_eq!(offered(&["validate", "-f", ""]), ":0\n");
    }

    #[test]
    fn each_shell_has_a_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let script = String::from_utf8(script(shell)).unwrap();
            assert!(script.contains("validate") && script.contains(PROGRAM), "{shell}");
        }
    }
}
