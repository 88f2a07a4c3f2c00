//! TLS for `https://`, and the certificates that are accepted.

use std::{
    env, error, fs,
    io::{self, Read},
    iter::successors,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
};
use tokio_rustls::TlsConnector;

use crate::{
    messages::message,
    source::{Cause, shown},
};

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
    let mut roots = RootCertStore::empty();
    for certificate in certificates("--cacert", path)? {
        let added = roots.add(certificate);
        added.map_err(|error| format!("--cacert {}: {}", path.display(), explain(&error)))?;
    }
    Ok(roots)
}

/// The certificates of a PEM file: at least one. `name` is the flag or the variable that names the file.
fn certificates(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let of_file = |why: &str| format!("{name} {}: {why}", path.display());
    let of_pem = |error| of_file(&explain_pem(&error));
    let all = CertificateDer::pem_file_iter(path).map_err(of_pem)?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(of_pem)?;
    if all.is_empty() {
        return Err(of_file(if is_der(path) {
            "it is DER, and canary needs PEM: openssl x509 -inform der -in FILE -out FILE.pem makes it"
        } else {
            "there is no certificate in it (want PEM)"
        }));
    }
    Ok(all)
}

/// Whether a file begins like a certificate in DER: a sequence with a length of two bytes.
fn is_der(path: &Path) -> bool {
    let mut start = [0; 2];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == [0x30, 0x82]
}

/// The certificates of the platform, or those that the environment names. A file or directory that the environment
/// names and that cannot be used is reported, even if there are other certificates.
fn platform_roots() -> Result<RootCertStore, String> {
    let unusable = unusable_variables();
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs); // some systems have old certificates that are malformed
    if roots.is_empty() {
        let why = if unusable.is_empty() { String::new() } else { format!(" ({})", unusable.join("; ")) };
        return Err(format!(
            "https:// needs root certificates, but this machine has none{why}: install them (ca-certificates), or \
             name a file with --cacert FILE or the variable SSL_CERT_FILE"
        ));
    }
    unusable.iter().for_each(message);
    Ok(roots)
}

/// What is wrong with the files and directories that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
fn unusable_variables() -> Vec<String> {
    let file =
        env::var_os("SSL_CERT_FILE").and_then(|file| certificates("SSL_CERT_FILE", Path::new(&file)).err());
    let directories = env::var_os("SSL_CERT_DIR").unwrap_or_default();
    let directories = env::split_paths(&directories).filter(|path| !path.as_os_str().is_empty());
    let directories = directories.filter_map(|path| {
        let error = fs::read_dir(&path).err()?;
        Some(format!("SSL_CERT_DIR {}: {error}", path.display()))
    });
    file.into_iter().chain(directories).collect()
}

/// The TLS error among an error and its causes. An [`io::Error`] does not name the error in it as its cause.
pub(in crate::source) fn error_in<'a>(error: &'a (dyn error::Error + 'static)) -> Option<&'a Error> {
    let inner = |error: &'a (dyn error::Error + 'static)| match error.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref().map(|inner| inner as &(dyn error::Error + 'static)),
        None => error.source(),
    };
    successors(Some(error), |error| inner(*error)).find_map(|error| error.downcast_ref())
}

/// The cause that a TLS error is.
pub(in crate::source) fn cause_of(error: &Error) -> Cause {
    match error {
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented | Error::UnsupportedNameType => {
            Cause::Certificate
        }
        _ => Cause::Tls,
    }
}

/// A TLS error in words, with what to do.
pub(in crate::source) fn explain(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => explain_certificate(why),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            "the server does not speak TLS at this port: is it http:// and not https://?".to_owned()
        }
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            format!("the server and canary have no version or method of TLS in common ({error})")
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server wants a certificate of the client, and canary has none".to_owned()
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::BadCertificate) => {
            format!(
                "the server refuses the connection; it may want a certificate of the client, and canary has none ({error})"
            )
        }
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server does not know the name in the URL".to_owned()
        }
        error => shown::text(&format!("TLS: {error}")),
    }
}

fn explain_certificate(why: &CertificateError) -> String {
    const OWN_NAME: &str = "use a name of the certificate in the URL";
    match why {
        CertificateError::UnknownIssuer => "the server's certificate is signed by an authority that is not trusted: \
             name the file of that authority with --cacert"
            .to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().take(5).map(|name| plain_name(name)).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            shown::text(&format!(
                "the server's certificate is for {names}, and not for {}: {OWN_NAME}",
                expected.to_str()
            ))
        }
        CertificateError::NotValidForName => {
            format!("the server's certificate is not for the name in the URL: {OWN_NAME}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired (if not, the clock of this machine is wrong)".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet (if it is, the clock of this machine is wrong)".to_owned()
        }
        CertificateError::BadEncoding => "the certificate is damaged".to_owned(),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the server presents a certificate of an authority (CA) as its own: it needs one that such an authority \
             has signed"
                .to_owned()
        }
        why => shown::text(&format!("the server's certificate is not accepted: {why}")),
    }
}

/// A name of a certificate, without the kind that rustls writes: `DnsName("a.example")`.
fn plain_name(name: &str) -> &str {
    name.split_once('(').map_or(name, |(_, name)| name.trim_end_matches(')').trim_matches('"'))
}

/// Why a PEM file cannot be read, in words.
fn explain_pem(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::MissingSectionEnd { end_marker } => {
            let name = String::from_utf8_lossy(end_marker);
            format!("the last {} in it has no end: the file is not complete", shown::text(name.trim()))
        }
        pem::Error::IllegalSectionStart { line } => {
            let line = String::from_utf8_lossy(line);
            format!("the line {:?} does not begin a section of PEM", shown::text(line.trim()))
        }
        pem::Error::Base64Decode(_) => "a certificate in it is damaged: its text is not base64".to_owned(),
        error => error.to_string(),
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
