//! A key of `auths`, read as the kubelet reads it: as a URL by Go's rules (`net/url`, `Parse`), whose scheme, user,
//! query and fragment are ignored.

/// A parsed key of `auths`: the images that an entry is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfigKey {
    /// A name, a pattern, or an IPv6 address in brackets.
    pub(super) host: String,
    /// `None` if it is absent or empty.
    pub(super) port: Option<String>,
    /// The prefix of the image's path: empty, or with a leading slash.
    pub(super) path: String,
    /// Whether the key was written without a scheme.
    pub(super) is_bare: bool,
    /// The text by which the kubelet sorts keys.
    pub(super) text: String,
}

impl ConfigKey {
    /// Parses a key. `None` if the kubelet skips the entry.
    pub(super) fn parse(key: &str) -> Option<Self> {
        let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
        let (authority, path) = parts(bare.unwrap_or(key))?;
        let path = match without_version(&path) {
            "/" => "",
            path => path,
        };
        // The kubelet parses the result a second time when it looks up an image.
        let text = format!("{authority}{path}");
        let (authority, path) = parts(&text)?;
        let (host, port) = host_and_port(&authority)?;
        let port = (!port.is_empty()).then(|| port.to_owned());
        Some(Self { host: host.to_owned(), port, path, is_bare: bare.is_none(), text })
    }
}

/// The path without the API version with which Docker's own keys end, as in `https://index.docker.io/v1/`.
fn without_version(path: &str) -> &str {
    let version = ["/v1", "/v2"].into_iter().find_map(|version| path.strip_prefix(version));
    version.filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path)
}

/// The host with its port, and the path, decoded.
fn parts(url: &str) -> Option<(String, String)> {
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    unescaped(fragment)?;
    if url.contains(|c: char| c.is_ascii_control()) {
        return None;
    }
    let rest = url.split('?').next().unwrap_or_default();
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let authority = match authority.rsplit_once('@') {
        Some((user, authority)) if is_user(user) => authority,
        Some(_) => return None,
        None => authority,
    };
    host_and_port(authority)?;
    Some((authority.to_owned(), unescaped(path)?))
}

/// Splits host and port. The port is empty if it is absent.
fn host_and_port(authority: &str) -> Option<(&str, &str)> {
    let host = match authority.strip_prefix('[') {
        Some(rest) => {
            let address = rest.rsplit_once(']')?.0;
            address.split('%').next()?.parse::<std::net::Ipv6Addr>().ok()?;
            authority.get(..address.len() + 2)?
        }
        None => authority.split(':').next()?,
    };
    // No usable host contains an escaped character, and Go doesn't allow escapes of characters that a host may contain.
    if host.contains('%') {
        return None;
    }
    let rest = authority.strip_prefix(host)?;
    let port = if rest.is_empty() { rest } else { rest.strip_prefix(':')? };
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some((host, port))
}

/// Whether the text is user information (RFC 3986, section 3.2.1). Like Go, this allows `@`.
fn is_user(user: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    user.chars().all(is_allowed) && user.split(':').all(|part| unescaped(part).is_some())
}

/// Decodes percent-encoding. `None` for an invalid escape or text that isn't UTF-8, which no image path contains.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let digits = after.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after.get(2..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(key: &str) -> Option<String> {
        ConfigKey::parse(key).map(|ConfigKey { host, port, path, .. }| {
            format!("{host}{}{path}", port.map(|port| format!(":{port}")).unwrap_or_default())
        })
    }

    #[test]
    fn parses_keys_as_urls() {
        for (key, text) in [
            ("r.io", "r.io"),
            ("r.io:", "r.io"),
            ("https://bob:p%40ss@r.io:5000/v2/team/?a=%zz#b", "r.io:5000/team/"),
            ("http://r.io/v1", "r.io"),
            ("r.io/v1beta", "r.io/v1beta"),
            ("r.io/v2//team", "r.io//team"),
            ("r.io/te%61m", "r.io/team"),
            ("r.io/te%2561m", "r.io/team"),
            ("r.io/a%3Fb", "r.io/a"),
            ("[::1]:5000/team", "[::1]:5000/team"),
            ("*.r.io", "*.r.io"),
        ] {
            assert_eq!(text_of(key).as_deref(), Some(text), "{key}");
        }
    }

    #[test]
    fn skips_keys_that_are_not_urls() {
        for key in [
            "r.io:x",
            "r.io:5000:5000",
            "::1",
            "[::1",
            "[r.io]",
            "[::1]x",
            "r.io/%",
            "r.io/%6",
            "r.io/%zz",
            "%72.io",
            "r.io#%zz",
            "r.io/a\n",
            "b ob@r.io",
            "b%zz@r.io",
            "r.io/%ff",
            "ftp://r.io/a",
            "HTTPS://r.io/a",
        ] {
            // `ftp:` is a host with an empty port, and its path begins with two slashes.
            let is_other_host =
                key.contains("://") && text_of(key).is_some_and(|text| text.contains("//r.io"));
            assert!(text_of(key).is_none() || is_other_host, "{key}");
        }
    }
}
