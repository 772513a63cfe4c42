//! Completion: scripts for shells, and candidates for kubectl, which runs the program `kubectl_complete-registry`. The
//! cluster provides the names of registries; a slow cluster must not delay typing.

use std::{ffi::OsString, fmt::Write as _, path::Path, time::Duration};

use clap::{CommandFactory as _, Parser as _};
use clap_complete::{Shell, engine::complete};
use registry_check::admission::resource;
use registry_verdict::object::RegistryScope;

use crate::{
    cli::{ClusterArgs, PluginCli, PluginCommand},
    list::all,
    object::FoundRegistry,
    page::clean,
};

/// The program's name in the shell.
const PROGRAM: &str = "kubectl-registry";
/// Cobra's codes for the shell: it may complete file names, or it may not.
const DEFAULT: &str = ":0";
const NO_FILES: &str = ":4";

/// The longest time to wait for names.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns the script for a shell.
pub fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut PluginCli::command(), PROGRAM, &mut script);
    script
}

/// Returns the registries that can complete the last word, if it is an argument of `describe`.
pub async fn names(words: &[OsString]) -> Vec<String> {
    let Some(cluster) = names_a_registry(words) else { return Vec::new() };
    let found = async {
        let connected = crate::cluster::configured(&cluster).await.ok()?;
        let system = all(&connected, RegistryScope::System, None).await.unwrap_or_default();
        let tenant =
            all(&connected, RegistryScope::Tenant, Some(&connected.namespace)).await.unwrap_or_default();
        Some(system.into_iter().chain(tenant).collect::<Vec<FoundRegistry>>())
    };
    let found = tokio::time::timeout(PATIENCE, found).await.ok().flatten().unwrap_or_default();
    found.iter().map(|found| how_to_name(found, cluster.namespace.is_some())).collect()
}

/// Returns the cluster to ask, if the last word is the name of a registry.
#[allow(clippy::wildcard_enum_match_arm, reason = "only what is being described is completed")]
fn names_a_registry(words: &[OsString]) -> Option<ClusterArgs> {
    const ANY: &str = "any";
    let (last, before) = words.split_last()?;
    if last.to_string_lossy().starts_with('-') {
        return None;
    }
    let all = [PROGRAM.into()].into_iter().chain(before.iter().cloned()).chain([ANY.into()]);
    let cli = PluginCli::try_parse_from(all).ok()?;
    match cli.command {
        PluginCommand::Describe(describe) if describe.registry == ANY => Some(cli.cluster),
        _ => None,
    }
}

/// Returns the plain name if it is unambiguous, otherwise resource/name.
fn how_to_name(found: &FoundRegistry, namespace_given: bool) -> String {
    if (found.scope == RegistryScope::Tenant) == namespace_given {
        return found.name();
    }
    format!("{}/{}", resource(found.scope).kind.to_lowercase(), found.name())
}

/// Returns the candidates for the last word in the format that kubectl reads (Cobra's `__complete`): one candidate with
/// a description per line, then a code for the shell.
pub fn candidates(words: &[OsString], names: &[String]) -> String {
    let mut all = vec![OsString::from(PROGRAM)];
    all.extend(words.iter().cloned());
    if all.len() == 1 {
        all.push(OsString::new());
    }
    let last = all.len() - 1;
    let wants_file =
        all[last - 1] == "-f" || all[last - 1] == "--filename" || all[last - 1] == "--kubeconfig";
    if wants_file {
        return format!("{DEFAULT}\n");
    }
    let found = complete(&mut PluginCli::command(), all, last, None::<&Path>).unwrap_or_default();
    let typed = last_word(words);
    let mut text = String::new();
    for name in names.iter().filter(|name| name.starts_with(&typed)) {
        text.push_str(&clean(name));
        text.push('\n');
    }
    for candidate in found.iter().filter(|candidate| !candidate.is_hide_set()) {
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let value = candidate.get_value().to_string_lossy();
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}\t{}", clean(&value), clean(&help));
    }
    text + NO_FILES + "\n"
}

/// Returns the incomplete last word.
fn last_word(words: &[OsString]) -> String {
    words.last().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(words: &[&str]) -> String {
        candidates(
            &words.iter().map(OsString::from).collect::<Vec<_>>(),
            &["packs".to_owned(), "other".to_owned()],
        )
    }

    #[test]
    fn completes_commands_flags_and_values() {
        let commands = offered(&[""]);
        assert!(commands.contains("validate\tCheck the registries"), "{commands}");
        assert!(!commands.contains("__complete") && commands.ends_with("\n:4\n"), "{commands}");
        assert!(offered(&["list", "--all"]).contains("--all-namespaces\t"));
        let values = offered(&["list", "-o", ""]);
        assert!(values.contains("wide\t") && values.contains("json\t"), "{values}");
        assert_eq!(offered(&["validate", "-f", ""]), ":0\n");
    }

    #[test]
    fn completes_registry_names() {
        let where_to_look =
            |words: &[&str]| names_a_registry(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(where_to_look(&["describe", "-n", "a", ""]).unwrap().namespace.as_deref(), Some("a"));
        assert!(where_to_look(&["describe", "p"]).is_some());
        for words in [
            ["describe", "-n", ""].as_slice(),
            &["describe", "packs", ""],
            &["describe", "-"],
            &["list", ""],
            &[],
        ] {
            assert!(where_to_look(words).is_none(), "{words:?}");
        }
        assert!(offered(&["describe", "pa"]).starts_with("packs\n"));
    }

    #[test]
    fn every_shell_has_a_completion_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let script = String::from_utf8(script(shell)).unwrap();
            assert!(script.contains("validate") && script.contains(PROGRAM), "{shell}");
        }
    }
}
