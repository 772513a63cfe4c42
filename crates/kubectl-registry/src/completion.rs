//! Completions: scripts for shells, and answers for kubectl, which asks a program named `kubectl_complete-registry`. The names
//! of registries are asked of the cluster, which must not keep who types waiting.

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

/// The program's name, as the shell knows it.
const PROGRAM: &str = "kubectl-registry";
/// Cobra's way of saying that the shell may complete file names itself; and that it may not.
const DEFAULT: &str = ":0";
const NO_FILES: &str = ":4";

/// Who types does not wait for longer than this.
const PATIENCE: Duration = Duration::from_secs(2);

/// The script for a shell.
pub fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut PluginCli::command(), PROGRAM, &mut script);
    script
}

/// The registries that may stand in the place of the last word, if it is `describe`'s.
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

/// Where to look, if the last word is the name of a registry.
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

/// A mere name, where that is enough.
fn how_to_name(found: &FoundRegistry, namespace_given: bool) -> String {
    if (found.scope == RegistryScope::Tenant) == namespace_given {
        return found.name();
    }
    format!("{}/{}", resource(found.scope).kind.to_lowercase(), found.name())
}

/// What may stand in the place of the last word, in the form that kubectl reads (Cobra's `__complete`): a candidate and its
/// description a line, then what the shell may do besides.
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
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}\t{}", clean(&value), clean(&help));
    }
    text + NO_FILES + "\n"
}

/// What there is of the last word.
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
    fn names_are_asked_for_where_a_registry_is_to_be_named() {
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
    fn each_shell_has_a_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let script = String::from_utf8(script(shell)).unwrap();
            assert!(script.contains("validate") && script.contains(PROGRAM), "{shell}");
        }
    }
}
