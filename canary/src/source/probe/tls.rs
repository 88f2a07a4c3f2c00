//! TLS for `https://`, and the certificates that are accepted.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_rustls::TlsConnector;

use crate::source::Cause;

/// Which certificates are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Certificates signed by the platform's root certificates, or by those in `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    #[default]
    Platform,
    /// Only certificates signed by a certificate in this PEM file.
    File(PathBuf),
    /// All certificates.
    Anything,
}

impl Trust {
    /// The TLS configuration of a client that accepts these certificates.
    ///
    /// # Errors
    /// If there is no certificate to trust: the cause, in words.
    pub(in crate::source) fn client_config(&self) -> Result<ClientConfig, String> {
        let roots = match self {
            Self::Platform => platform_roots()?,
            Self::File(path) => roots_of(path)?,
            Self::Anything => RootCertStore::empty(),
        };
        let mut config = config(roots)?;
        if *self == Self::Anything {
            let provider = Arc::clone(config.crypto_provider());
            config.dangerous().set_certificate_verifier(Arc::new(AcceptAll(provider)));
        }
        Ok(config)
    }

    /// A configuration that trusts no certificate, for plain HTTP.
    pub(in crate::source) fn no_client_config() -> Result<ClientConfig, String> {
        config(RootCertStore::empty())
    }
}

/// A TLS connector that accepts the certificates of `trust`.
pub(super) fn connector(trust: &Trust) -> Result<TlsConnector, String> {
    let mut config = trust.client_config()?;
    // each request is like the first request of a new client
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn config(roots: RootCertStore) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn roots_of(path: &Path) -> Result<RootCertStore, String> {
    let of_file = |error: &dyn fmt::Display| format!("--cacert {}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| of_file(&error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| of_file(&error))?;
        roots.add(certificate).map_err(|error| of_file(&error))?;
    }
    if roots.is_empty() {
        return Err(of_file(&"there is no certificate in it (want PEM)"));
    }
    Ok(roots)
}

fn platform_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs); // some systems have old certificates that are malformed
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "https:// needs root certificates, but this machine has none{why}: install them (ca-certificates), or \
             name a file with --cacert FILE or the variable SSL_CERT_FILE"
        ));
    }
    Ok(roots)
}

/// The cause of a failed TLS handshake; `None` if the connection itself failed.
pub(super) fn cause_of(error: &std::io::Error) -> Option<Cause> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented | Error::UnsupportedNameType => {
            Some(Cause::Certificate)
        }
        _ => Some(Cause::Tls),
    }
}

/// Accepts any certificate. It still checks that the server has the certificate's private key.
#[derive(Debug)]
struct AcceptAll(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
