//! Names of repositories, as the OCI distribution-spec defines them ("Pulling manifests", `<name>`).

use std::fmt;
use std::str::FromStr;

/// A repository's name, or the prefix of one, such as `team/packs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepositoryName(String);

/// The text does not follow the grammar of repository names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a repository name; use lower-case letters and digits, joined by . _ __ - or /")]
pub struct RepositoryNameError;

/// The longest name in characters, host name included (the specification's note on length).
const LONGEST_REPOSITORY: usize = 255;

impl RepositoryName {
    /// Parses a name by the grammar of the OCI distribution-spec.
    pub fn parse(text: &str) -> Result<Self, RepositoryNameError> {
        let fits = text.len() <= LONGEST_REPOSITORY && text.split('/').all(is_path_component);
        if fits { Ok(Self(text.to_owned())) } else { Err(RepositoryNameError) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This name as one below `base`.
    pub(crate) fn below(&self, base: Option<&Self>) -> Self {
        match base {
            Some(base) => Self(format!("{base}/{self}")),
            None => self.clone(),
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, in one pass.
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (Some(first), Some(last)) = (component.bytes().next(), component.bytes().last()) else {
        return false;
    };
    let separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    alphanumeric(first) && alphanumeric(last) && separators.filter(|part| !part.is_empty()).all(is_separator)
}

fn is_separator(separator: &str) -> bool {
    matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
}

impl FromStr for RepositoryName {
    type Err = RepositoryNameError;

    fn from_str(text: &str) -> Result<Self, RepositoryNameError> {
        Self::parse(text)
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn follows_the_oci_name_grammar() {
        for name in ["a", "0", "hello-world", "a.b_c__d---e/f", "library/alpine", "a--b"] {
            assert!(RepositoryName::parse(name).is_ok(), "{name}");
        }
        for name in [
            "", "/", "/a", "a/", "a//b", "A", "a..b", "a___b", "a._b", "-a", "a-", "a b", "\u{e9}", "a:b",
            "a@b", "..", "a/../b",
        ] {
            assert!(RepositoryName::parse(name).is_err(), "{name}");
        }
        assert!(RepositoryName::parse(&"a".repeat(256)).is_err());
    }

    #[test]
    fn joins_name_to_base_path() {
        let name = |text| RepositoryName::parse(text).unwrap();
        assert_eq!(name("hello").below(Some(&name("team/packs"))), name("team/packs/hello"));
        assert_eq!(name("hello").below(None), name("hello"));
    }

    proptest! {
        #[test]
        fn accepts_names_that_oci_client_accepts(name in "[a-bA/._-]{0,12}") {
            let theirs = format!("registry.example.com/{name}").parse::<oci_client::Reference>();
            let theirs = theirs.is_ok_and(|reference| reference.repository() == name);
            prop_assert_eq!(RepositoryName::parse(&name).is_ok(), theirs);
        }

        #[test]
        fn agrees_with_the_oci_regular_expression(name in "[a-b/._-]{0,12}") {
            // [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*
            let component = |part: &str| {
                let ends = part.starts_with(['a', 'b']) && part.ends_with(['a', 'b']);
                let separators = part.split(['a', 'b']).filter(|text| !text.is_empty());
                ends && separators.into_iter().all(|text| [".", "_", "__"].contains(&text) || text.chars().all(|c| c == '-'))
            };
            prop_assert_eq!(RepositoryName::parse(&name).is_ok(), name.split('/').all(component));
        }
    }
}
