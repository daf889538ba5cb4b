//! Which proxy a request goes through, if any: `proxy_url`, `no_proxy`, `proxy_from_environment`, read as Go
//! reads them (golang.org/x/net/http/httpproxy).

use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::secrets::basic;
use super::{header_value, read_secret};
use crate::config::{Proxy, Secret};

/// A proxy, and what it is to be told.
pub(super) struct Via {
    pub uri: Uri,
    /// From the user and password of its URL.
    pub authorization: Option<HeaderValue>,
}

/// The proxies of a client.
pub(super) struct Proxies {
    http: Option<Via>,
    https: Option<Via>,
    /// `None`: everything goes through the proxy, this host too, as with a `proxy_url` alone.
    direct: Option<Vec<Direct>>,
    connect_headers: Vec<(String, Vec<Secret>)>,
}

/// An entry of `no_proxy`.
#[derive(Debug, PartialEq)]
enum Direct {
    All,
    Network {
        address: IpAddr,
        bits: u8,
        port: Option<u16>,
    },
    /// A domain and what is below it.
    Domain {
        name: String,
        port: Option<u16>,
        itself: bool,
    },
}

impl Proxies {
    pub(super) fn new(settings: &Proxy) -> Result<Self, String> {
        Self::with(settings, |name| {
            let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
            read(name).or_else(|| read(&name.to_ascii_lowercase()))
        })
    }

    fn with(settings: &Proxy, environment: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        match settings {
            Proxy::None => Ok(Proxies { http: None, https: None, direct: None, connect_headers: Vec::new() }),
            Proxy::Url { url, no_proxy, connect_headers } => Ok(Proxies {
                http: Some(via(url).map_err(|error| format!("proxy_url: {error}"))?),
                https: Some(via(url).map_err(|error| format!("proxy_url: {error}"))?),
                direct: (!no_proxy.is_empty()).then(|| parse_no_proxy(no_proxy)),
                connect_headers: connect_headers.clone(),
            }),
            Proxy::FromEnvironment { connect_headers } => {
                let read = |name: &str| {
                    environment(name)
                        .map(|url| via(&url).map_err(|error| format!("variable {name}: {error}")))
                        .transpose()
                };
                Ok(Proxies {
                    http: read("HTTP_PROXY")?,
                    https: read("HTTPS_PROXY")?,
                    direct: Some(parse_no_proxy(&environment("NO_PROXY").unwrap_or_default())),
                    connect_headers: connect_headers.clone(),
                })
            }
        }
    }

    /// The proxy for a request to `uri`; `None` to ask its host itself.
    pub(super) fn for_uri(&self, uri: &Uri) -> Option<&Via> {
        let is_tls = uri.scheme_str() == Some("https");
        let via = if is_tls { self.https.as_ref() } else { self.http.as_ref() }?;
        let Some(direct) = &self.direct else { return Some(via) };
        let host = uri.host()?.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return None;
        }
        (!direct.iter().any(|entry| entry.holds(&host, address, port))).then_some(via)
    }

    /// The headers of `CONNECT`, read now.
    pub(super) fn connect_headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let mut headers = Vec::new();
        for (name, values) in &self.connect_headers {
            for value in values {
                let name =
                    HeaderName::from_bytes(name.as_bytes()).map_err(|error| format!("{name}: {error}"))?;
                headers.push((name, header_value(&read_secret(value)?)?));
            }
        }
        Ok(headers)
    }
}

impl Direct {
    fn holds(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let same_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match self {
            Direct::All => true,
            Direct::Network { address: network, bits, port } => {
                same_port(port) && address.is_some_and(|address| in_network(address, *network, *bits))
            }
            Direct::Domain { name, port, itself } => {
                same_port(port)
                    && match host.strip_suffix(name.as_str()) {
                        Some("") => *itself,
                        Some(before) => before.ends_with('.'),
                        None => false,
                    }
            }
        }
    }
}

fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (left, right, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let rest = width - u32::from(bits);
    rest >= 128 || left >> rest == right >> rest
}

fn via(url: &str) -> Result<Via, String> {
    let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = whole.parse().map_err(|error| format!("{error}"))?;
    if uri.scheme_str() != Some("http") {
        return Err("only http:// proxies are supported".into());
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let Some((user, _)) = authority.rsplit_once('@') else { return Ok(Via { uri, authorization: None }) };
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let authorization = Some(header_value(&basic(&unescape(name), &unescape(password)))?);
    Ok(Via { uri, authorization })
}

/// `%40` and its like.
fn unescape(text: &str) -> String {
    // A plus sign is itself in the user part of a URL, but a space to the decoder of forms.
    let pairs = text.replace('+', "%2B");
    form_urlencoded::parse(pairs.as_bytes()).next().map_or_else(String::new, |(name, _)| name.into_owned())
}

fn parse_no_proxy(list: &str) -> Vec<Direct> {
    list.split(',')
        .map(|entry| entry.trim().to_ascii_lowercase())
        .filter_map(|entry| parse_direct(&entry))
        .collect()
}

fn parse_direct(entry: &str) -> Option<Direct> {
    if entry.is_empty() {
        return None;
    }
    if entry == "*" {
        return Some(Direct::All);
    }
    if let Some((address, bits)) = entry.split_once('/') {
        let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
        let width = if address.is_ipv4() { 32 } else { 128 };
        return (bits <= width).then_some(Direct::Network { address, bits, port: None });
    }
    let whole = |address: IpAddr, port| Direct::Network {
        address,
        bits: if address.is_ipv4() { 32 } else { 128 },
        port,
    };
    if let Ok(address) = entry.trim_matches(['[', ']']).parse() {
        return Some(whole(address, None));
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (entry, None),
    };
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return Some(whole(address, port));
    }
    let name = host.trim_start_matches('*');
    let (name, itself) = name.strip_prefix('.').map_or((name, true), |name| (name, false));
    (!name.is_empty()).then(|| Direct::Domain { name: name.to_owned(), port, itself })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(no_proxy: &str) -> Proxies {
        let url = "http://me:p%40ss@proxy.example:3128".to_owned();
        let settings = Proxy::Url { url, no_proxy: no_proxy.to_owned(), connect_headers: Vec::new() };
        Proxies::with(&settings, |_| None).unwrap()
    }

    #[test]
    fn hosts_that_no_proxy_names_are_asked_directly() {
        let some =
            proxies("10.0.0.0/8, example.org, .inner.net, *.star.net, 192.0.2.1:9100, fd00::/8, site.de:81");
        for (url, direct) in [
            ("http://10.1.2.3/metrics", true),
            ("http://11.1.2.3/metrics", false),
            ("http://example.org", true),
            ("http://a.b.example.org", true),
            ("http://notexample.org", false),
            ("http://inner.net", false),
            ("http://a.inner.net", true),
            ("http://star.net", false),
            ("http://a.star.net", true),
            ("http://192.0.2.1:9100", true),
            ("http://192.0.2.1:9101", false),
            ("http://[fd00::1]:80", true),
            ("http://[fe00::1]:80", false),
            ("http://site.de:81", true),
            ("https://site.de", false),
            ("http://localhost:9100", true),
            ("http://127.0.0.1:9100", true),
            ("http://[::1]:9100", true),
        ] {
            assert_eq!(some.for_uri(&url.parse().unwrap()).is_none(), direct, "{url}");
        }
    }

    #[test]
    fn a_proxy_url_alone_takes_everything_and_star_nothing() {
        let all = proxies("");
        let via = all.for_uri(&"http://localhost:9100".parse().unwrap()).unwrap();
        assert_eq!(via.uri.host(), Some("proxy.example"));
        assert_eq!(via.authorization.as_ref().unwrap().to_str().unwrap(), "Basic bWU6cEBzcw==");
        assert!(proxies("*").for_uri(&"http://example.org".parse().unwrap()).is_none());
    }

    #[test]
    fn the_environment_names_a_proxy_for_each_scheme() {
        let variables = |name: &str| match name {
            "HTTPS_PROXY" => Some("proxy.example:3128".to_owned()),
            "NO_PROXY" => Some("example.org".to_owned()),
            _ => None,
        };
        let settings = Proxy::FromEnvironment { connect_headers: Vec::new() };
        let some = Proxies::with(&settings, variables).unwrap();
        assert!(some.for_uri(&"http://example.com".parse().unwrap()).is_none());
        assert!(some.for_uri(&"https://example.com".parse().unwrap()).is_some());
        assert!(some.for_uri(&"https://example.org".parse().unwrap()).is_none());
    }

    #[test]
    fn a_proxy_that_is_not_spoken_is_refused() {
        let settings = Proxy::Url {
            url: "socks5://127.0.0.1:1080".into(),
            no_proxy: String::new(),
            connect_headers: Vec::new(),
        };
        let error = Proxies::new(&settings).err().unwrap();
        assert_eq!(error, "proxy_url: only http:// proxies are supported");
    }
}
