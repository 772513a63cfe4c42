//! Which requests are answered at all: those that name this console as their host, and those that change something only from its own
//! pages. Pure.

use http::{HeaderMap, Method, header};

use crate::public_url::PublicUrl;

/// Where this console is.
#[derive(Clone, Debug)]
pub struct Site {
    scheme: &'static str,
    hosts: Vec<String>,
}

/// Why a request isn't answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestRefusal {
    /// It is for another host: DNS rebinding, or a wrong URL.
    Host,
    /// It would change something, and doesn't come from a page of this console.
    Origin,
}

impl RequestRefusal {
    /// The sentence for people.
    pub fn message(self) -> &'static str {
        match self {
            Self::Host => "Request refused: the host is not this console's; open the console by its own URL",
            Self::Origin => {
                "Request refused: it does not come from a page of this console; open the page again and repeat"
            }
        }
    }
}

impl Site {
    /// On this machine, at that port.
    pub fn loopback(port: u16) -> Self {
        let names = ["127.0.0.1", "localhost"];
        let mut hosts: Vec<String> = names.iter().map(|name| format!("{name}:{port}")).collect();
        if port == 80 {
            // Browsers leave out the scheme's own port.
            hosts.extend(names.map(ToOwned::to_owned));
        }
        Self { scheme: "http", hosts }
    }

    /// At the URL that browsers know.
    pub fn public(url: &PublicUrl) -> Self {
        Self { scheme: url.scheme(), hosts: vec![url.authority().to_owned()] }
    }

    /// Whether browsers use HTTPS.
    pub fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// Decides about a request of a program: without the marks of a browser, or from a page of this console.
    pub fn admit_program(&self, headers: &HeaderMap) -> Result<(), RequestRefusal> {
        let host = self.host(headers).ok_or(RequestRefusal::Host)?;
        let is_browser = headers.contains_key("sec-fetch-site") || headers.contains_key(header::ORIGIN);
        if !is_browser || self.is_own_page(host, headers) { Ok(()) } else { Err(RequestRefusal::Origin) }
    }

    /// Decides about a request.
    pub fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<(), RequestRefusal> {
        let host = self.host(headers).ok_or(RequestRefusal::Host)?;
        if method.is_safe() || self.is_own_page(host, headers) { Ok(()) } else { Err(RequestRefusal::Origin) }
    }

    /// The one host that a request names, if it is this console's.
    fn host(&self, headers: &HeaderMap) -> Option<&str> {
        let named = only(headers, header::HOST.as_str())?;
        self.hosts.iter().map(String::as_str).find(|host| *host == named)
    }

    /// By what browsers say and pages can't forge. Either is enough, and neither may contradict.
    fn is_own_page(&self, host: &str, headers: &HeaderMap) -> bool {
        let site = headers.contains_key("sec-fetch-site").then(|| only(headers, "sec-fetch-site"));
        let origin = headers.contains_key(header::ORIGIN).then(|| only(headers, header::ORIGIN.as_str()));
        let is_own = |origin: Option<&str>| origin == Some(&format!("{}://{host}", self.scheme));
        match (site, origin) {
            (Some(site), None) => site == Some("same-origin"),
            (Some(site), Some(origin)) => site == Some("same-origin") && is_own(origin),
            (None, Some(origin)) => is_own(origin),
            (None, None) => false,
        }
    }
}

/// The header's value, if there is one header of that name.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(method: &Method, headers: &[(&'static str, &'static str)]) -> Result<(), RequestRefusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, header::HeaderValue::from_static(value));
        }
        Site::loopback(8080).admit(method, &map)
    }

    #[test]
    fn only_its_own_hosts_are_served() {
        for host in ["127.0.0.1:8080", "localhost:8080"] {
            assert_eq!(admit(&Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
        let rebound = [
            "",
            "evil.example:8080",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.0.0.1:8080.evil.example",
            "127.0.0.2:8080",
        ];
        for host in rebound {
            assert_eq!(admit(&Method::GET, &[("host", host)]), Err(RequestRefusal::Host), "{host}");
        }
        assert_eq!(admit(&Method::GET, &[]), Err(RequestRefusal::Host));
        let two = [("host", "127.0.0.1:8080"), ("host", "127.0.0.1:8080")];
        assert_eq!(admit(&Method::GET, &two), Err(RequestRefusal::Host));
    }

    #[test]
    fn public_host_and_origin_are_exact() {
        let site = Site::public(&PublicUrl::parse("https://r.example").unwrap());
        let admit = |headers: [(&str, &'static str); 2]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
                map.append(name, header::HeaderValue::from_static(value));
            }
            (site.admit(&Method::POST, &map), site.admit_program(&map))
        };
        let (host, origin) = (Err(RequestRefusal::Host), Err(RequestRefusal::Origin));
        assert_eq!(admit([("host", "r.example"), ("origin", "https://r.example")]), (Ok(()), Ok(())));
        assert_eq!(admit([("host", "r.example"), ("x", "y")]), (origin, Ok(())));
        for foreign in [("origin", "http://r.example"), ("sec-fetch-site", "cross-site")] {
            assert_eq!(admit([("host", "r.example"), foreign]), (origin, origin), "{foreign:?}");
        }
        for wrong in ["10.0.0.1:8443", "r.example:8443", "evil.example"] {
            assert_eq!(admit([("host", wrong), ("origin", "https://r.example")]), (host, host), "{wrong}");
        }
    }

    #[test]
    fn port_80_is_left_out_by_browsers() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, header::HeaderValue::from_static("127.0.0.1"));
        headers.insert(header::ORIGIN, header::HeaderValue::from_static("http://127.0.0.1"));
        assert_eq!(Site::loopback(80).admit(&Method::POST, &headers), Ok(()));
        assert_eq!(Site::loopback(8080).admit(&Method::GET, &headers), Err(RequestRefusal::Host));
    }

    #[test]
    fn changes_come_from_its_own_pages() {
        let own = [
            vec![("sec-fetch-site", "same-origin")],
            vec![("origin", "http://127.0.0.1:8080")],
            vec![("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:8080")],
        ];
        for headers in own {
            let headers = [vec![("host", "127.0.0.1:8080")], headers].concat();
            assert_eq!(admit(&Method::POST, &headers), Ok(()), "{headers:?}");
        }
    }

    #[test]
    fn changes_from_elsewhere_are_refused() {
        let foreign = [
            vec![],
            vec![("sec-fetch-site", "same-site")],
            vec![("sec-fetch-site", "cross-site")],
            vec![("sec-fetch-site", "none")],
            vec![("origin", "null")],
            vec![("origin", "http://127.0.0.1:9090")],
            vec![("origin", "https://127.0.0.1:8080")],
            vec![("origin", "http://localhost:8080")],
            vec![("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:8080")],
            vec![("sec-fetch-site", "same-origin"), ("origin", "http://evil.example")],
            vec![("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-origin")],
        ];
        for headers in foreign {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let headers = [vec![("host", "127.0.0.1:8080")], headers.clone()].concat();
                assert_eq!(admit(&method, &headers), Err(RequestRefusal::Origin), "{headers:?}");
            }
        }
    }
}
