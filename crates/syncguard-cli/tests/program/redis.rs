//! Locks on a server instead of a file.

use std::{fs, net::TcpListener, path::Path, process::Command};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use syncguard_testkit::server::RedisServer;

use crate::sandbox::{KEY, Running, Sandbox, assert_code, only_line, program, stdout};

fn on(url: &str, verb: &str, rest: &[&str]) -> Command {
    let mut program = program();
    program.args([verb, "--key", KEY]).args(rest).env("SYNCGUARD_STORE", url);
    program
}

#[tokio::test]
async fn two_programs_exclude_each_other_on_a_redis_server() {
    let server = RedisServer::builder().setting("appendonly", "yes").start().await.unwrap();
    let url = server.url();
    let held = ["--owner", "first", "--", "sh", "-c", "echo held; read line; exit 0"];
    let mut holder = Running::start(&mut on(&url, "run", &held));
    assert_eq!(holder.read_line(), "held");

    let shown = on(&url, "status", &[]).output().unwrap();
    assert!(
        stdout(&shown).starts_with("held by \"first\" under fence 000000000000001"),
        "{shown:?}"
    );
    let refused = on(&url, "run", &["--no-wait", "--", "true"]).output().unwrap();
    assert_code(&refused, 75);

    assert_code(&holder.finish(), 0);
    assert_eq!(stdout(&on(&url, "status", &[]).output().unwrap()), "free");
}

/// Two cryptography providers in one program would panic at the first use of TLS.
#[tokio::test]
async fn a_server_that_does_not_speak_tls_cannot_be_used_over_it() {
    let server = RedisServer::builder().start().await.unwrap();
    let url = server.url().replace("redis://", "rediss://");
    let output = on(&url, "run", &["--no-wait", "--", "true"]).output().unwrap();
    assert_code(&output, 69);
    only_line(&output);
}

#[tokio::test]
async fn a_lock_is_acquired_over_tls_from_a_server_whose_certificate_is_trusted() {
    let (sandbox, port) = (Sandbox::new(), free_port());
    certify(&sandbox);
    let file = |name| sandbox.path(name).display().to_string();
    let server = RedisServer::builder()
        .setting("appendonly", "yes")
        .setting("tls-port", port.to_string())
        .setting("tls-auth-clients", "no")
        .setting("tls-ca-cert-file", file("authority.pem"))
        .setting("tls-cert-file", file("server.pem"))
        .setting("tls-key-file", file("server.key"))
        .start();
    let _server = server.await.unwrap();
    let run = |authority: &Path| {
        let mut program =
            on(&format!("rediss://localhost:{port}"), "run", &["--no-wait", "--", "echo", "done"]);
        program.env("SSL_CERT_FILE", authority).output().unwrap()
    };
    assert_eq!(stdout(&run(&sandbox.path("authority.pem"))), "done");
    certify(&sandbox);
    assert_code(&run(&sandbox.path("authority.pem")), 69);
}

#[test]
fn trusted_certificates_that_cannot_be_loaded_are_reported_with_the_reason() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("torn.pem"), "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
    for (name, reason) in [("absent.pem", "No such file"), ("torn.pem", "PEM")] {
        let mut program = on("rediss://u:secret@localhost", "run", &["--", "true"]);
        let output = program.env("SSL_CERT_FILE", sandbox.path(name)).output().unwrap();
        assert_code(&output, 64);
        let line = only_line(&output);
        assert!(line.contains(name) && line.contains(reason), "{line}");
        assert!(!line.contains("the address is none of") && !line.contains("secret"), "{line}");
    }
}

/// Creates a certificate authority, and a server certificate that it has signed.
fn certify(sandbox: &Sandbox) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &authority).unwrap();
    for (name, text) in [
        ("authority.pem", authority.pem()),
        ("server.pem", server.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        fs::write(sandbox.path(name), text).unwrap();
    }
}

/// Returns a port on which no process listened a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
