//! Services with TLS: real servers, with certificates made by these tests.

mod common;

use std::{fs, net::IpAddr, path::PathBuf, process::Command, sync::Arc};

use common::{canary, json_lines, run};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion, WantsVerifier,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;

/// A certificate authority. It signs the certificates of its servers.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    runtime: Runtime,
    directory: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new([]).expect("parameters");
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self {
            issuer: CertifiedIssuer::self_signed(parameters, key).expect("a certificate"),
            runtime: Runtime::new().expect("a runtime"),
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    /// Its own certificate, as a PEM file.
    fn file(&self) -> PathBuf {
        let path = self.directory.path().join("ca.pem");
        fs::write(&path, self.issuer.pem()).expect("a file");
        path
    }

    /// Starts a server with a certificate for these names, and returns its port. Its answers have the name that the
    /// client asked for (SNI) in `x-served-by`.
    fn serve(&self, names: &[&str]) -> u16 {
        let (certificate, key) = self.certificate(names);
        let config = versions(rustls::ALL_VERSIONS).with_no_client_auth();
        self.serve_with(config.with_single_cert(vec![certificate], key).expect("a configuration"))
    }

    /// A certificate for these names, and its key.
    fn certificate(&self, names: &[&str]) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).expect("names").signed_by(&key, &self.issuer);
        let certificate = certificate.expect("a certificate").der().clone();
        (certificate, PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())))
    }

    /// Starts a server with this configuration.
    fn serve_with(&self, config: ServerConfig) -> u16 {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        self.runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let name = client.get_ref().1.server_name().unwrap_or("none").to_owned();
                    let _ = client.read(&mut [0; 1024]).await;
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nx-release: stable\r\nx-served-by: {name}\r\ncontent-length: 0\r\n\r\n"
                    );
                    let _ = client.write_all(answer.as_bytes()).await;
                    let _ = client.shutdown().await;
                });
            }
        });
        port
    }
}

fn versions(versions: &[&'static SupportedProtocolVersion]) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    builder.with_protocol_versions(versions).expect("versions")
}

fn summary(command: &mut Command) -> Value {
    let output = command.args(["--count=3", "--rate=100", "--timeout=20s", "--output=json"]).output();
    let output = output.expect("it runs");
    let (text, messages) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    json_lines(&text).pop().unwrap_or_else(|| panic!("{messages}"))
}

#[test]
fn a_certificate_of_the_given_authority_is_accepted() {
    let authority = Authority::new("one");
    let file = authority.file();
    let file = file.to_str().expect("UTF-8");
    let port = authority.serve(&["localhost", "127.0.0.1", "shop.example"]);
    for (host, asked_for) in
        [("localhost", "localhost"), ("127.0.0.1", "none"), ("shop.example", "shop.example")]
    {
        let (url, resolve) =
            (format!("https://{host}:{port}"), format!("{host}:{port}:{}", IpAddr::from([127, 0, 0, 1])));
        let summary = summary(&mut canary(&["watch", &url, "--cacert", file, "--resolve", &resolve]));
        assert_eq!(summary["success"], 3, "{host}: {summary}");
        assert_eq!(summary["pods"][asked_for]["success"], 3, "the name in the handshake: {summary}");
    }
}

#[test]
fn environment_variables_set_the_platforms_root_certificates() {
    let authority = Authority::new("one");
    let port = authority.serve(&["127.0.0.1"]);
    let url = format!("https://127.0.0.1:{port}");
    let trusting =
        summary(canary(&["watch", &url]).env_remove("SSL_CERT_DIR").env("SSL_CERT_FILE", authority.file()));
    assert_eq!(trusting["success"], 3, "{trusting}");

    let mut without_roots = canary(&["watch", &url, "--count=1", "--timeout=20s"]);
    without_roots.env_remove("SSL_CERT_DIR").env("SSL_CERT_FILE", "/dev/null");
    let none = without_roots.output().expect("it runs");
    let messages = String::from_utf8_lossy(&none.stderr);
    assert_eq!(none.status.code(), Some(3), "{messages}");
    assert!(messages.contains("--cacert FILE") && messages.contains("SSL_CERT_FILE"), "{messages}");
}

#[test]
fn an_untrusted_certificate_has_its_own_cause() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let file = authority.file();
    let file = file.to_str().expect("UTF-8");
    let unknown = other.serve(&["127.0.0.1"]);
    let of_another_name = authority.serve(&["elsewhere.example"]);
    for (port, why) in [
        (
            unknown,
            "signed by an authority that is not trusted: name the file of that authority with --cacert",
        ),
        (of_another_name, "is for elsewhere.example, and not for 127.0.0.1"),
    ] {
        let url = format!("https://127.0.0.1:{port}");
        let refused = summary(&mut canary(&["watch", &url, "--cacert", file]));
        assert_eq!(refused["no_answer"], json!({"count": 3, "causes": {"certificate": 3}}), "{refused}");
        let trouble = refused["trouble"].as_str().expect("a text");
        assert!(trouble.contains("certificate") && trouble.contains(why), "{trouble}");
        let accepted = summary(&mut canary(&["watch", &url, "--insecure"]));
        assert_eq!(accepted["success"], 3, "--insecure: {accepted}");
    }
    let url = format!("https://127.0.0.1:{unknown}");
    let (code, _, messages) = run(&["judge", &url, "--cacert", file, "--for=1s", "--timeout=20s"]);
    assert_eq!(code, Some(4), "{messages}");
    assert!(messages.contains("certificate"), "{messages}");
}

#[test]
fn a_server_without_tls_has_its_own_cause() {
    let fleet = common::Fleet::with_canary(common::Version::Baseline);
    let url = format!("https://{}", fleet.address);
    let plain = summary(&mut canary(&["watch", &url, "--insecure"]));
    assert_eq!(plain["no_answer"], json!({"count": 3, "causes": {"tls": 3}}), "{plain}");
    assert!(plain["trouble"].as_str().is_some_and(|why| why.contains("is it http://")), "{plain}");
}

#[test]
fn a_file_without_certificates_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let empty = directory.path().join("empty.pem");
    fs::write(&empty, "no certificate").expect("a file");
    let empty = empty.to_str().expect("UTF-8");
    for (file, cause) in [(empty, "no certificate in it"), ("/no/such/file", "No such file")] {
        let (code, output, messages) = run(&["judge", "https://127.0.0.1", "--cacert", file]);
        assert_eq!((code, output.as_str()), (Some(3), ""), "{messages}");
        assert!(messages.contains(file) && messages.contains(cause), "{messages}");
    }
}

#[test]
fn a_missing_client_certificate_is_named_in_each_version_of_tls() {
    let authority = Authority::new("one");
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).expect("a certificate");
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
    let verifier = verifier.build().expect("a verifier");
    for version in [&TLS12, &TLS13] {
        let (certificate, key) = authority.certificate(&["127.0.0.1"]);
        let config = versions(&[version]).with_client_cert_verifier(Arc::clone(&verifier));
        let port =
            authority.serve_with(config.with_single_cert(vec![certificate], key).expect("a configuration"));
        let url = format!("https://127.0.0.1:{port}");
        // with TLS 1.3, the connection may be reset before the server's reason is read; then nothing tells the cause
        testkit::eventually("each request names the cause", || {
            let refused = summary(&mut canary(&["watch", &url, "--insecure"]));
            let trouble = refused["trouble"].as_str().expect("a text");
            refused["no_answer"] == json!({"count": 3, "causes": {"tls": 3}})
                && trouble.contains("a certificate of the client, and canary has none")
        });
    }
}

#[test]
fn an_authority_that_presents_its_own_certificate_is_explained() {
    let mut parameters = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let authority = Authority::new("runtime");
    let file = authority.directory.path().join("own.pem");
    fs::write(&file, certificate.pem()).expect("a file");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = versions(rustls::ALL_VERSIONS).with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], key).expect("a configuration");
    let url = format!("https://127.0.0.1:{}", authority.serve_with(config));
    let refused = summary(&mut canary(&["watch", &url, "--cacert", file.to_str().expect("UTF-8")]));
    assert_eq!(refused["no_answer"], json!({"count": 3, "causes": {"certificate": 3}}), "{refused}");
    let trouble = refused["trouble"].as_str().expect("a text");
    assert!(trouble.contains("presents a certificate of an authority (CA) as its own"), "{trouble}");
}

#[test]
fn a_prometheus_is_asked_with_the_same_certificates() {
    let authority = Authority::new("one");
    let file = authority.file();
    let url = format!("https://127.0.0.1:{}", authority.serve(&["127.0.0.1"]));
    let judge = |flags: &[&str]| {
        let (code, _, told) = run(&[&["judge", "--prometheus", &url, "--for=5s"], flags].concat());
        assert_eq!(code, Some(4), "{told}");
        told
    };
    for flags in [&["--cacert", file.to_str().expect("UTF-8")][..], &["--insecure"]] {
        let told = judge(flags);
        assert!(told.contains("this is not a Prometheus server: its answer is empty"), "{told}");
    }
    let told = judge(&[]);
    assert!(
        told.contains("the server's certificate is signed by an authority that is not trusted"),
        "{told}"
    );
}

#[test]
fn roots_that_the_environment_names_and_that_cannot_be_used_are_reported() {
    let authority = Authority::new("one");
    let url = format!("https://127.0.0.1:{}", authority.serve(&["127.0.0.1"]));
    authority.file();
    let good = authority.directory.path();
    let other = tempfile::tempdir().expect("a directory");
    let (empty, der) = (other.path().join("empty.pem"), other.path().join("ca.der"));
    fs::write(&empty, "").expect("a file");
    fs::write(&der, authority.issuer.der()).expect("a file");
    for (file, says) in [
        (PathBuf::from("/nope"), "SSL_CERT_FILE /nope: No such file or directory"),
        (empty, "empty.pem: there is no certificate in it (want PEM)"),
        (der, "ca.der: it is DER, and canary needs PEM"),
    ] {
        let mut watch = canary(&["watch", &url, "--count=1", "--timeout=20s"]);
        watch.env("SSL_CERT_FILE", &file);
        // with other roots, the message is all
        let output = watch.env("SSL_CERT_DIR", good).output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(told.contains(says), "{told}");
        // without any, it is a mistake in the command line
        let output = watch.env_remove("SSL_CERT_DIR").output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{told}");
        assert!(told.contains(says) && told.contains("needs root certificates"), "{told}");
    }
    let mut watch = canary(&["watch", &url, "--count=1", "--timeout=20s"]);
    let output = watch.env("SSL_CERT_FILE", authority.file()).env("SSL_CERT_DIR", "/nope").output();
    let told = String::from_utf8_lossy(&output.expect("it runs").stderr).into_owned();
    assert!(told.contains("SSL_CERT_DIR /nope: No such file or directory"), "{told}");
}

#[test]
fn a_damaged_certificate_file_is_explained() {
    let authority = Authority::new("one");
    let text = fs::read_to_string(authority.file()).expect("a file");
    let path = authority.directory.path().join("damaged.pem");
    let without_its_end = &text[..text.len() - 40];
    let no_base64 = text.replacen("MII", "M!I", 1);
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (text, says) in [
        (without_its_end, "the last CERTIFICATE in it has no end: the file is not complete"),
        (&no_base64, "a certificate in it is damaged: its text is not base64"),
        (no_certificate, "the certificate is damaged"),
    ] {
        fs::write(&path, text).expect("a file");
        let (code, _, told) = run(&["judge", "https://127.0.0.1", "--cacert", path.to_str().expect("UTF-8")]);
        assert_eq!(code, Some(3), "{told}");
        assert!(told.contains(says) && !told.contains('['), "{told}");
    }
}
