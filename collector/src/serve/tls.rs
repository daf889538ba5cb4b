//! TLS of the HTTP server, by rustls: versions, suites, curves, and what clients must show.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, NamedGroup, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::web_config::{ClientAuth, Pem, TlsSettings};

/// Suites that Go knows by these names and rustls refuses to speak: taken, with a warning.
const NOT_SPOKEN: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
];
/// Suites of TLS 1.3, which Go lets nobody choose.
const ALWAYS: &[&str] = &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
/// Suites of TLS 1.2 that are spoken.
const SUITES: &[(&str, CipherSuite)] = &[
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];
const CURVES: &[(&str, Option<NamedGroup>)] = &[
    ("CurveP256", Some(NamedGroup::secp256r1)),
    ("CurveP384", Some(NamedGroup::secp384r1)),
    ("CurveP521", None),
    ("X25519", Some(NamedGroup::X25519)),
];

/// Reads the certificates and makes them ready to serve.
///
/// # Errors
/// The key of the file whose value is of no use, and why.
pub(super) fn server_config(settings: &TlsSettings, http2: bool) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(provider(settings)?);
    let mut versions: Vec<&SupportedProtocolVersion> = Vec::new();
    if settings.tls13 {
        versions.push(&rustls::version::TLS13);
    }
    if settings.tls12 {
        versions.push(&rustls::version::TLS12);
    }
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| format!("tls_server_config: {error}"))?;
    let builder = match verifier(settings, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let certificates = certificates(&settings.cert, "cert")?;
    let key = PrivateKeyDer::from_pem_slice(&read(&settings.key, "key")?)
        .map_err(|error| format!("tls_server_config.key: {error}"))?;
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| format!("tls_server_config: the certificate and the key: {error}"))?;
    if http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Arc::new(config))
}

/// The files that a change of would make [`server_config`] give something else.
pub(super) fn files(settings: &TlsSettings) -> impl Iterator<Item = &Path> {
    [Some(&settings.cert), Some(&settings.key), settings.client_ca.as_ref()].into_iter().flatten().filter_map(
        |pem| match pem {
            Pem::File(path) => Some(path.as_path()),
            Pem::Text(_) => None,
        },
    )
}

fn provider(settings: &TlsSettings) -> Result<CryptoProvider, String> {
    let mut provider = rustls::crypto::ring::default_provider();
    let mut wanted = Vec::new();
    for name in &settings.cipher_suites {
        match SUITES.iter().find(|(known, _)| known == name) {
            Some((_, suite)) => wanted.push(*suite),
            None if ALWAYS.contains(&name.as_str()) => {}
            None if NOT_SPOKEN.contains(&name.as_str()) => {
                log::warn!(cipher = name.as_str(); "this cipher suite is not safe and not spoken");
            }
            None => return Err(format!("tls_server_config.cipher_suites: unknown cipher: {name}")),
        }
    }
    if !settings.cipher_suites.is_empty() {
        let is_wanted = |suite: CipherSuite| wanted.contains(&suite);
        provider.cipher_suites.retain(|s| s.tls13().is_some() || is_wanted(s.suite()));
    }
    let mut curves = Vec::new();
    for name in &settings.curves {
        match CURVES.iter().find(|(known, _)| known == name) {
            Some((_, Some(group))) => curves.push(*group),
            Some(_) => log::warn!(curve = name.as_str(); "this curve is not spoken"),
            None => return Err(format!("tls_server_config.curve_preferences: unknown curve: {name}")),
        }
    }
    if !settings.curves.is_empty() {
        provider.kx_groups.retain(|group| curves.contains(&group.name()));
        provider.kx_groups.sort_by_key(|group| curves.iter().position(|curve| *curve == group.name()));
        if provider.kx_groups.is_empty() {
            return Err("tls_server_config.curve_preferences: none of these curves is spoken".into());
        }
    }
    Ok(provider)
}

fn verifier(
    settings: &TlsSettings,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let mandatory = matches!(settings.client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
    let inner = match settings.client_auth {
        ClientAuth::No => return Ok(None),
        ClientAuth::Request | ClientAuth::RequireAny => None,
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {
            let roots = Arc::new(client_roots(settings)?);
            let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            let builder = if mandatory { builder } else { builder.allow_unauthenticated() };
            Some(builder.build().map_err(|error| format!("tls_server_config.client_ca: {error}"))?)
        }
    };
    let sans = settings.client_allowed_sans.clone();
    Ok(Some(Arc::new(Clients { inner, mandatory, sans, provider })))
}

fn client_roots(settings: &TlsSettings) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match &settings.client_ca {
        Some(pem) => {
            for certificate in certificates(pem, "client_ca")? {
                roots.add(certificate).map_err(|error| format!("tls_server_config.client_ca: {error}"))?;
            }
        }
        // As Go does: those whom this system trusts.
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    Ok(roots)
}

fn certificates(pem: &Pem, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(pem, key)?)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("tls_server_config.{key}: {error}"))?;
    if found.is_empty() { Err(format!("tls_server_config.{key}: no certificate in it")) } else { Ok(found) }
}

fn read(pem: &Pem, key: &str) -> Result<Vec<u8>, String> {
    match pem {
        Pem::Text(text) => Ok(text.clone().into_bytes()),
        Pem::File(path) => std::fs::read(path)
            .map_err(|error| format!("tls_server_config.{key}_file: {}: {error}", path.display())),
    }
}

/// What clients must show.
#[derive(Debug)]
struct Clients {
    /// Checks the chain; absent where any certificate will do.
    inner: Option<Arc<dyn ClientCertVerifier>>,
    mandatory: bool,
    /// Of which the certificate must have one.
    sans: Option<Vec<String>>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.as_ref().map_or(&[], |inner| inner.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if let Some(inner) = &self.inner {
            inner.verify_client_cert(certificate, intermediates, now)?;
        }
        if let Some(allowed) = &self.sans {
            let names = alternative_names(certificate).map_err(rustls::Error::General)?;
            if !names.iter().any(|name| allowed.contains(name)) {
                return Err(rustls::Error::General(format!(
                    "none of the client's names {names:?} is in client_allowed_sans"
                )));
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The subject alternative names of a certificate: host names, mail addresses, IP addresses, URIs.
fn alternative_names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let extension = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
    let names = extension.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
    Ok(names.iter().filter_map(alternative_name).collect())
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|b| IpAddr::from(Ipv4Addr::from(b)));
            let v6 = <[u8; 16]>::try_from(*bytes).map(|b| IpAddr::from(Ipv6Addr::from(b)));
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}
