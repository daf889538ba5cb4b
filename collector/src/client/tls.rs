//! TLS of outgoing requests, by rustls: the system's roots or a file's, client certificates, another server name.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::config::{Secret, TlsSettings};

/// What a connection is encrypted with; `http2` offers it to the server.
///
/// # Errors
/// Which file is wrong, and why.
pub(super) fn client_config(settings: &TlsSettings, http2: bool) -> Result<Arc<ClientConfig>, String> {
    let mut config = build(settings)?;
    if http2 {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Ok(Arc::new(config))
}

fn build(settings: &TlsSettings) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] = match (settings.only_tls12, settings.only_tls13) {
        (true, _) => &[&rustls::version::TLS12],
        (_, true) => &[&rustls::version::TLS13],
        _ => rustls::ALL_VERSIONS,
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| format!("tls_config: {error}"))?;
    let builder = if settings.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    } else if let Some(ca) = &settings.ca {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca, "tls_config.ca")? {
            roots.add(certificate).map_err(|error| format!("tls_config.ca: {error}"))?;
        }
        builder.with_root_certificates(roots)
    } else {
        builder.with_root_certificates(system_roots())
    };
    match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(&bytes(key, "tls_config.key")?)
                .map_err(|error| format!("tls_config.key: {error}"))?;
            builder
                .with_client_auth_cert(certificates(cert, "tls_config.cert")?, key)
                .map_err(|error| format!("tls_config.cert: {error}"))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// The roots that the system trusts. Where it has none, as a small container, that costs the requests that need one and
/// no others: they fail for an unknown issuer.
fn system_roots() -> RootCertStore {
    static SAID: std::sync::Once = std::sync::Once::new();
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        SAID.call_once(|| {
            let mend = "install ca-certificates, or name a tls_config.ca_file";
            log::info!(errors:? = found.errors, mend; "No root certificates here: https is refused");
        });
    }
    roots
}

fn certificates(pem: &Secret, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes(pem, key)?)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{key}: {error}"))?;
    if found.is_empty() { Err(format!("{key}: no certificate in it")) } else { Ok(found) }
}

fn bytes(pem: &Secret, key: &str) -> Result<Vec<u8>, String> {
    match pem {
        Secret::Inline(text) => Ok(text.clone().into_bytes()),
        Secret::File(path) => {
            std::fs::read(path).map_err(|error| format!("{key}_file: {}: {error}", path.display()))
        }
    }
}

/// Takes any certificate, as `insecure_skip_verify` asks; signatures are still checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
