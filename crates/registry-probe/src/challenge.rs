//! `WWW-Authenticate`: the challenges of a 401 (RFC 9110, section 11.6.1), as servers write them.
//!
//! Owns the grammar, read leniently: several lines, several challenges in one line, unquoted values with
//! characters that want quotes (a realm that is a URL), odd case, blanks around `=`, missing commas, token68,
//! duplicates, garbage between. Libraries of the strict grammar give up on such a line, and the registry with
//! it. Every input is read in one pass. Does not decide which challenge is answered, or whether a realm is
//! trusted.

/// One challenge: an authentication scheme with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

/// The most challenges that are read from one response. Real servers send a few; 10,000 are an attack.
const MOST_CHALLENGES: usize = 32;
const MOST_PARAMETERS: usize = 32;

impl Challenge {
    /// The challenges of all header lines, in their order.
    pub(crate) fn parse_all<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<Self> {
        let mut challenges = Vec::new();
        for line in lines {
            // Obsolete bytes beyond ASCII are let through; they can't be part of a name that matters.
            ChallengeReader { rest: &String::from_utf8_lossy(line) }.read(&mut challenges);
        }
        challenges
    }

    /// Whether the challenge has this scheme. Schemes are case-insensitive.
    pub(crate) fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The scheme as written.
    pub(crate) fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The first parameter with that name, unless it is empty. Names are case-insensitive.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let mut named = self.parameters.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }
}

struct ChallengeReader<'a> {
    rest: &'a str,
}

impl<'a> ChallengeReader<'a> {
    /// A word followed by `=` is a parameter of the newest challenge, any other word a new challenge's
    /// scheme.
    fn read(&mut self, challenges: &mut Vec<Challenge>) {
        let before = challenges.len();
        while !self.rest.is_empty() && challenges.len() <= MOST_CHALLENGES {
            self.skip(|c| c.is_whitespace() || c == ',');
            let word = self.take(is_token_char);
            if word.is_empty() {
                self.skip_garbage();
                continue;
            }
            self.skip(char::is_whitespace);
            if self.rest.starts_with('=') && challenges.len() > before {
                let value = self.value();
                if let Some(challenge) = challenges.last_mut() {
                    challenge.add(word, value);
                }
            } else {
                challenges.push(Challenge { scheme: word.to_owned(), parameters: Vec::new() });
                self.skip_token68();
            }
        }
        challenges.truncate(MOST_CHALLENGES);
    }

    /// Skips a word that begins neither a parameter nor a challenge, with its value if it has one.
    fn skip_garbage(&mut self) {
        match self.rest.strip_prefix('"') {
            Some(quoted) => drop(self.quoted(quoted)),
            None if self.rest.starts_with('=') => drop(self.value()),
            None => self.skip_one(),
        }
    }

    /// Reads the value after `=`: a quoted string, or everything up to the next blank or comma.
    fn value(&mut self) -> String {
        self.skip_one();
        self.skip(char::is_whitespace);
        match self.rest.strip_prefix('"') {
            Some(quoted) => self.quoted(quoted),
            None => self.take(|c| !c.is_whitespace() && c != ',').trim_matches('"').to_owned(),
        }
    }

    /// Reads a quoted string (RFC 9110, section 5.6.4). If the closing quote is missing, the string ends with the line.
    fn quoted(&mut self, quoted: &'a str) -> String {
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &quoted[at + 1..];
                    return value;
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        self.rest = "";
        value
    }

    /// Skips token68 data right after the scheme, as in `Negotiate YII...==`. No scheme that is supported here uses it.
    fn skip_token68(&mut self) {
        self.skip(char::is_whitespace);
        let end = self.rest.find(|c: char| !is_token68_char(c)).unwrap_or(self.rest.len());
        let (word, after) = self.rest.split_at(end);
        let padding = after.len() - after.trim_start_matches('=').len();
        let after = after[padding..].trim_start();
        let ends = after.is_empty() || after.starts_with(',');
        // A lone word before a comma may as well be the next scheme, so only what can't be one is taken for
        // token68.
        let opaque = padding > 0 || !word.chars().all(is_token_char) || word.len() > LONGEST_SCHEME;
        let parameter =
            padding == 1 && ["realm", "service", "scope"].iter().any(|name| word.eq_ignore_ascii_case(name));
        if ends && opaque && !parameter && !word.is_empty() {
            self.rest = after;
        }
    }

    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c: char| !belongs(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip(&mut self, belongs: impl Fn(char) -> bool) {
        self.take(belongs);
    }

    fn skip_one(&mut self) {
        let mut chars = self.rest.chars();
        chars.next();
        self.rest = chars.as_str();
    }
}

/// No registered scheme is longer; an opaque token nearly always is.
const LONGEST_SCHEME: usize = 32;

impl Challenge {
    fn add(&mut self, name: &str, value: String) {
        if self.parameters.len() < MOST_PARAMETERS {
            self.parameters.push((name.to_owned(), value));
        }
    }
}

/// RFC 9110, section 5.6.2.
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// RFC 9110, section 11.2, without the padding.
fn is_token68_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~+/".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(lines: &[&str]) -> Vec<Challenge> {
        Challenge::parse_all(lines.iter().map(|line| line.as_bytes()))
    }

    fn schemes(lines: &[&str]) -> Vec<String> {
        parse(lines).iter().map(|challenge| challenge.scheme().to_ascii_lowercase()).collect()
    }

    #[test]
    fn parses_challenge_as_specified() {
        let [challenge] = &parse(&[
            r#"Bearer realm="https://auth.example.com/token",service="registry",scope="a:b:c""#,
        ])[..] else {
            panic!("one challenge");
        };
        assert!(challenge.is("bearer"));
        assert_eq!(challenge.parameter("realm"), Some("https://auth.example.com/token"));
        assert_eq!(challenge.parameter("Service"), Some("registry"));
        assert_eq!(challenge.parameter("scope"), Some("a:b:c"));
        assert_eq!(challenge.parameter("error"), None);
    }

    #[test]
    fn parses_malformed_challenges_of_registries() {
        for line in [
            "Bearer realm=https://auth.example.com/token,service=registry",
            "BEARER Realm = \"https://auth.example.com/token\" , SERVICE = \"registry\"",
            "bearer realm=\"https://auth.example.com/token\" service=\"registry\"",
            "Bearer realm='https://auth.example.com/token',realm=\"other\",service=registry",
            ",, Bearer  realm=\"https://auth.example.com/\\token\",,service=registry,",
            "Bearer service=registry,realm=\"https://auth.example.com/token",
            "Bearer service=registry, realm=https://auth.example.com/token\"",
            "Bearer \u{e9}\u{ff} service=registry,realm=\"https://auth.example.com/token\",error=\"\u{1f980}\"",
        ] {
            let challenges = parse(&[line]);
            let bearer = challenges.iter().find(|challenge| challenge.is("Bearer")).expect(line);
            let realm = bearer.parameter("realm").map(|realm| realm.trim_matches('\''));
            assert_eq!(realm, Some("https://auth.example.com/token"), "{line}");
            assert_eq!(bearer.parameter("service"), Some("registry"), "{line}");
        }
    }

    #[test]
    fn splits_challenges_in_one_or_several_headers() {
        let bearer = r#"Bearer realm="https://a/t",scope="repository:a:pull,push""#;
        assert_eq!(schemes(&[&format!("Basic realm=\"x, y\", {bearer}")]), ["basic", "bearer"]);
        assert_eq!(schemes(&[bearer, "Basic realm=\"x\""]), ["bearer", "basic"]);
        assert_eq!(schemes(&["Negotiate, NTLM"]), ["negotiate", "ntlm"]);
        assert_eq!(schemes(&["Negotiate YIIabc/+==, Basic realm=x"]), ["negotiate", "basic"]);
        assert_eq!(
            schemes(&["Negotiate oQcwBaADCgEAaaaaaaaaaaaaaaaaaaaaaaaaaaaa,Basic realm=x"]),
            ["negotiate", "basic"]
        );
        assert_eq!(schemes(&["Basic"]), ["basic"]);
        assert_eq!(schemes(&["", " , ,", "=\"x\""]), Vec::<String>::new());
    }

    #[test]
    fn parameters_stay_with_their_own_header() {
        let challenges = parse(&["Basic", "realm=\"https://evil\""]);
        assert_eq!(challenges.first().and_then(|basic| basic.parameter("realm")), None);
    }

    #[test]
    fn first_duplicate_parameter_wins() {
        let challenges = parse(&[r#"Bearer realm="https://a/t",realm="https://b/t""#]);
        assert_eq!(challenges[0].parameter("realm"), Some("https://a/t"));
    }

    #[test]
    fn limits_number_of_challenges() {
        let many = "Bearer realm=\"https://a/t\", ".repeat(10_000);
        assert_eq!(parse(&[&many]).len(), MOST_CHALLENGES);
    }

    #[test]
    fn parses_a_mebibyte_in_bounded_time() {
        let started = std::time::Instant::now();
        for unit in ["=", "\"", "\\\"", "a=", "a ", ",", "a=\"", "Basic ", "==,", "\u{e9}", "a/b/"] {
            parse(&[&unit.repeat(1024 * 1024 / unit.len())]);
        }
        assert!(started.elapsed() < crate::BOUNDED, "{:?}", started.elapsed());
    }

    #[test]
    fn distinguishes_token68_from_parameters() {
        let opaque = parse(&["Negotiate abc==, Basic realm=\"x\""]);
        assert_eq!((opaque.len(), opaque[0].parameter("abc")), (2, None));
        let bearer = parse(&["Bearer error=invalid,realm=\"https://auth.example.com/token\""]);
        assert_eq!(bearer.len(), 1);
        assert_eq!(bearer[0].parameter("realm"), Some("https://auth.example.com/token"));
        assert_eq!(bearer[0].parameter("error"), Some("invalid"));
    }

    proptest! {
        #[test]
        fn no_input_panics(lines in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
            Challenge::parse_all(lines.iter().map(Vec::as_slice));
        }

        #[test]
        fn no_input_of_challenge_characters_panics(line in "[ ,=\"\\\\a-cBR/é]{0,64}") {
            Challenge::parse_all([line.as_bytes()]);
        }

        #[test]
        fn quoted_value_round_trips(realm in "[ -~]{1,40}") {
            let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
            let challenges = parse(&[&format!("Bearer realm=\"{quoted}\",service=\"s\"")]);
            let expected = Some(realm.trim()).filter(|realm| !realm.is_empty());
            prop_assert_eq!(challenges[0].parameter("realm"), expected);
            prop_assert_eq!(challenges[0].parameter("service"), Some("s"));
        }
    }
}
