//! Docker configurations as users have them, and as they come out of editors, scripts and other clients.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A configuration, and what is to be pulled with it.
pub struct Case {
    pub config: Vec<u8>,
    pub has_key_twice: bool,
    pub endpoint: String,
    pub base_path: Option<String>,
    /// As a Pod refers to it, without a tag.
    pub image: String,
    /// As Docker asks for it.
    pub host: String,
}

pub fn cases(seed: u64, count: usize) -> Vec<Case> {
    let mut dice = Dice(seed);
    (0..count).map(|number| case(&mut dice, number)).collect()
}

/// SplitMix64: the same numbers for the same seed, whatever else changes.
struct Dice(u64);

impl Dice {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % u64::try_from(end).unwrap()).unwrap()
    }

    fn is(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// Endpoints, with the domain of a reference to an image there.
const ENDPOINTS: &[(&str, &str)] = &[
    ("https://registry.example.com", "registry.example.com"),
    ("https://registry.example.com", "registry.example.com"),
    ("https://registry.example.com:5000", "registry.example.com:5000"),
    ("http://registry.example.com:5000", "registry.example.com:5000"),
    ("http://registry.example.com", "registry.example.com"),
    ("https://127.0.0.1:5000", "127.0.0.1:5000"),
    ("https://[::1]:5000", "[::1]:5000"),
    ("https://[2001:db8::1]", "[2001:db8::1]"),
    ("https://registry-1.docker.io", "docker.io"),
    ("https://index.docker.io", "docker.io"),
];

const HOSTS: &[&str] = &[
    "{host}",
    "{host}",
    "{host}",
    "{host}",
    "{host}",
    "{name}",
    "{name}:443",
    "{name}:80",
    "{name}:",
    "{name}:5000",
    "{name}:05000",
    "*.example.com",
    "*.example.com:5000",
    "reg*.example.com",
    "*.*.com",
    "*",
    "registry.*.com:5000",
    "registry.example.com*",
    "{HOST}",
    "other.example.com",
    "example.com",
    "*.0.0.1:5000",
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
    "*.docker.io",
    "docker.*",
    "bob@{host}",
    "b ob@{host}",
    "bob:%zz@{host}",
    "%72egistry.example.com",
    "::1",
    "[::1]",
    "[::1",
    "",
    "{host}:x",
];

const PATHS: &[&str] = &[
    "",
    "",
    "",
    "",
    "",
    "/",
    "/",
    "/v1/",
    "/v1/",
    "/v2/",
    "/v2",
    "/v1",
    "//",
    "/team",
    "/team/",
    "/team/app",
    "/te",
    "/te%61m",
    "/te%2561m",
    "/%zz",
    "/v1/team",
    "/v2//team",
    "/other",
    "/?a=b",
    "?a=b",
    "#team",
    "/#%zz",
    "/team?x",
    "/v1beta",
    "/a b",
    "/*",
];

fn case(dice: &mut Dice, number: usize) -> Case {
    let (endpoint, domain) = ENDPOINTS[dice.below(ENDPOINTS.len())];
    let base_path = dice.is(40).then(|| "team".to_owned());
    let image = format!(
        "{domain}/{}image-{number}",
        base_path.as_deref().map_or_else(String::new, |path| path.to_owned() + "/")
    );
    let keys: Vec<String> = (0..=dice.below(4)).map(|_| key(dice, domain)).collect();
    let entries: Vec<String> = keys
        .iter()
        .enumerate()
        .map(|(position, key)| format!("{}:{}", string(dice, key), entry(dice, &format!("user{position}"))))
        .collect();
    let text = file(dice, &entries.join(","));
    let config = spoiled(dice, text);
    let has_key_twice = keys.iter().enumerate().any(|(position, key)| keys[..position].contains(key));
    Case { config, has_key_twice, endpoint: endpoint.to_owned(), base_path, image, host: domain.to_owned() }
}

fn key(dice: &mut Dice, domain: &str) -> String {
    let scheme = dice.pick(&["", "", "", "https://", "https://", "http://", "HTTPS://", "ftp://", "//"]);
    let name = match domain.rsplit_once(':') {
        Some((name, _)) if !domain.ends_with(']') => name,
        _ => domain,
    };
    let host = dice
        .pick(HOSTS)
        .replace("{host}", domain)
        .replace("{name}", name)
        .replace("{HOST}", &domain.to_uppercase());
    if dice.is(5) {
        return "https://index.docker.io/v1/".to_owned();
    }
    if dice.is(40) {
        return format!(
            "{scheme}{domain}{}",
            dice.pick(&["", "", "", "/", "/v1/", "/v2/", "/team", "/team/"])
        );
    }
    format!("{scheme}{host}{}", dice.pick(PATHS))
}

/// A string in JSON, now and then with escapes.
fn string(dice: &mut Dice, text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    if dice.is(5) { quoted.replace('/', "\\/") } else { quoted }
}

fn entry(dice: &mut Dice, user: &str) -> String {
    if dice.is(6) {
        return dice
            .pick(&[
                "null",
                "{}",
                "{}",
                "{}",
                "{\"auth\":\"\"}",
                "{\"email\":\"a@b\"}",
                "{\"email\":\"a@b\"}",
                "[]",
            ])
            .to_owned();
    }
    let mut fields = Vec::new();
    if dice.is(75) {
        fields.push(format!("{}:{}", name(dice, "auth"), auth(dice, user)));
    }
    if fields.is_empty() || dice.is(30) {
        let value = dice
            .pick(&["USER", "USER", "USER", "null", "a:b", "", "\\ud800", "us\\u00e9r"])
            .replace("USER", user);
        let value = if value == "null" { value } else { format!("\"{value}\"") };
        fields.push(format!("{}:{value}", name(dice, "username")));
        let value = dice.pick(&[
            "\"plain\"",
            "\"plain\"",
            "\"pl:ain\"",
            "null",
            "\"\"",
            "\"pl\\nain\"",
            "\"plain\\n\"",
            "\"\\ud83d\\ude00\"",
        ]);
        fields.push(format!("{}:{value}", name(dice, "password")));
    }
    for (field, percent) in
        [("identitytoken", 6), ("registrytoken", 4), ("email", 5), ("unknown", 5), ("auth", 2)]
    {
        if dice.is(percent) {
            let value =
                dice.pick(&["\"token\"", "\"token\"", "\"token\"", "\"\"", "null", "5", "\"to ken\""]);
            let value = if field == "unknown" || value != "5" || dice.is(20) { value } else { "null" };
            fields.push(format!("{}:{value}", name(dice, field)));
        }
    }
    if dice.is(20) {
        fields.reverse();
    }
    format!("{{{}}}", fields.join(","))
}

fn name(dice: &mut Dice, name: &str) -> String {
    match dice.below(40) {
        0 => format!("\"{}\"", name.to_uppercase()),
        1 => format!("\"{}{}\"", name[..1].to_uppercase(), &name[1..]),
        2 => format!("\"{}\"", name.replace('s', "\u{17f}").replace('k', "\u{212a}")),
        _ => format!("\"{name}\""),
    }
}

fn auth(dice: &mut Dice, user: &str) -> String {
    let login: Vec<u8> = match dice.below(70) {
        0 => format!("{user}:pa:ss").into_bytes(),
        1 => user.to_owned().into_bytes(),
        2 => format!("{user}:").into_bytes(),
        3 => b":password".to_vec(),
        4 => b":".to_vec(),
        5 => format!("{user}:password\n").into_bytes(),
        6 => format!("{user}:password\0\0").into_bytes(),
        7 => [user.as_bytes(), b":p\xff\xfe"].concat(),
        8 => format!("{user}:{}", "long".repeat(30)).into_bytes(),
        9 => format!("{user}:p\u{e9}ss").into_bytes(),
        10 => format!("{user}:\0").into_bytes(),
        11 => format!("{user}:line\nline").into_bytes(),
        length => format!("{user}:{}", "p".repeat(length % 23)).into_bytes(),
    };
    let text = STANDARD.encode(login);
    let text = match dice.below(150) {
        0 | 1 => text.trim_end_matches('=').to_owned(),
        2 => format!("{text}\\n"),
        3 => format!(" {text}"),
        4 => format!("{text} "),
        5 => text.replace('=', "\\n="),
        6 => format!("{text}="),
        7 => text
            .chars()
            .enumerate()
            .map(|(at, c)| if at % 8 == 7 { format!("{c}\\r\\n") } else { c.to_string() })
            .collect(),
        8 => "not base64!".to_owned(),
        9 => "\\n".to_owned(),
        10 => format!("{text}\\t"),
        11 => format!("{}:{text}", "a"),
        _ => text,
    };
    if dice.below(1000) == 0 { "7".to_owned() } else { format!("\"{text}\"") }
}

fn file(dice: &mut Dice, entries: &str) -> String {
    let auths = name(dice, "auths");
    match dice.below(60) {
        // The layout of `.dockercfg`, which is another Secret's.
        0 => format!("{{{entries}}}"),
        1 => format!("{{{auths}:null}}"),
        2 => format!("{{{auths}:{{{entries}}},\"credHelpers\":null,\"credsStore\":null}}"),
        3 => format!("{{{auths}:{{{entries}}},\"credHelpers\":{{\"other.example\":\"ecr-login\"}}}}"),
        4 => format!("{{\"HttpHeaders\":{{\"User-Agent\":\"docker\"}},{auths}:{{{entries}}}}}"),
        5 => format!("{{\"HttpHeaders\":{{\"User-Agent\":7}},{auths}:{{{entries}}}}}"),
        6 => format!("{{{auths}:{{{entries}}},{auths}:{{\"a.example\":{{}}}}}}"),
        7 => format!("{{{auths}:{{{entries}}},{auths}:null}}"),
        8 => format!("{{{auths}:{{{entries},{entries}}}}}"),
        9 => format!("{{{auths}:[]}}"),
        10 => "null".to_owned(),
        11 => String::new(),
        12 => format!(
            "{{{auths}:{{{entries}}},\"proxies\":{{\"default\":{{\"x\":1e999}}}},\"psFormat\":\"\\ud800\"}}"
        ),
        _ => format!("{{{auths}:{{{entries}}}}}"),
    }
}

/// What editors and scripts do to a file.
fn spoiled(dice: &mut Dice, text: String) -> Vec<u8> {
    match dice.below(80) {
        0 => [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        1 => text.as_bytes()[..text.len() - text.len().min(1)].to_vec(),
        2 => format!("{text}}}").into_bytes(),
        3 => format!("\n\t {text}\r\n").into_bytes(),
        4 => text.replace(',', ",,").into_bytes(),
        5 => text.replace('"', "'").into_bytes(),
        6 => text.replace("user", "us\u{e9}r").into_bytes(),
        7 => String::from_utf8(text.into_bytes()).unwrap().replace("user", "\u{1}").into_bytes(),
        8 => text
            .bytes()
            .map(|byte| if byte == b'u' && text.len().is_multiple_of(2) { 0xff } else { byte })
            .collect(),
        9 => format!("// comment\n{text}").into_bytes(),
        10 => format!("{text} {{}}").into_bytes(),
        11 => text.replace("\"plain\"", "\"\\ud83dplain\\udc00\"").into_bytes(),
        _ => text.into_bytes(),
    }
}
