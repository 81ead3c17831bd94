use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::*;

const FIRST: [&str; 2] = [
    include_str!("../../../../tests/fixtures/tls/first.pem"),
    include_str!("../../../../tests/fixtures/tls/first.key.pem"),
];
const SECOND: [&str; 2] = [
    include_str!("../../../../tests/fixtures/tls/second.pem"),
    include_str!("../../../../tests/fixtures/tls/second.key.pem"),
];
const EXPIRED: [&str; 2] = [
    include_str!("../../../../tests/fixtures/tls/expired.pem"),
    include_str!("../../../../tests/fixtures/tls/expired.key.pem"),
];

fn files(folder: &Path) -> TlsConfig {
    TlsConfig { certificate: folder.join("chain.pem"), key: folder.join("key.pem") }
}

fn write(files: &TlsConfig, [certificate, key]: [&str; 2]) {
    std::fs::write(&files.certificate, certificate).unwrap();
    std::fs::write(&files.key, key).unwrap();
}

#[test]
fn load_errors_name_the_file_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let error = || Tls::load(&files).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error().contains("tls.certificate: cannot read"), "{}", error());
    std::fs::write(&files.certificate, FIRST[0]).unwrap();
    assert!(error().contains("tls.key: cannot read"), "{}", error());
    let damaged = FIRST[0].replace("-----END CERTIFICATE-----", "");
    let not_base64 = FIRST[0].replacen("MII", "M!I", 1);
    let no_certificate = "-----BEGIN CERTIFICATE-----\nTm90aGluZw==\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nTm90aGluZw==\n-----END PRIVATE KEY-----\n";
    let locked = FIRST[1].replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (pair, expected, file) in [
        (["", FIRST[1]], "there is no certificate in", "chain.pem"),
        ([FIRST[1], FIRST[1]], "there is no certificate in", "chain.pem"),
        ([&damaged, FIRST[1]], "is not PEM", "chain.pem"),
        ([&not_base64, FIRST[1]], "is not PEM", "chain.pem"),
        ([no_certificate, FIRST[1]], "the first certificate in", "chain.pem"),
        ([FIRST[0], ""], "there is no private key in", "key.pem"),
        ([FIRST[0], FIRST[0]], "there is no private key in", "key.pem"),
        ([FIRST[0], &locked], "without a passphrase", "key.pem"),
        ([FIRST[0], no_key], "cannot be used", "key.pem"),
        ([FIRST[0], SECOND[1]], "does not belong to the first certificate in", "chain.pem"),
    ] {
        write(&files, pair);
        assert!(error().contains(expected) && error().contains(file), "{expected}: {}", error());
        assert!(error().starts_with("tls."), "{}", error());
    }
    write(&files, FIRST);
    assert_eq!(error(), "");
    std::fs::remove_file(&files.key).unwrap();
    std::fs::create_dir(&files.key).unwrap();
    assert!(error().contains("it is not a file"), "{}", error());
}

#[test]
fn expiry_warning_begins_two_weeks_before_end() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    write(&files, EXPIRED);
    let tls = Tls::load(&files).unwrap();
    let warning = |now: &str| tls.expiry_warning(now.parse().unwrap());
    assert_eq!(warning("2020-06-01T00:00:00Z"), None);
    assert_eq!(warning("2020-12-17T23:00:00Z"), None);
    assert!(warning("2020-12-22T12:00:00Z").unwrap().contains("2021-01-01T00:00:00Z, in 9 days"));
    assert!(warning("2021-01-01T00:00:00Z").unwrap().contains("expired at 2021-01-01T00:00:00Z"));
    // The expiry of a self-signed certificate.
    let root = include_bytes!("../../../../tests/fixtures/tls/first-ca.pem");
    let root = CertificateDer::from_pem_slice(root).unwrap();
    let end = certificate::expiry(&root);
    assert_eq!(end, Some("2120-01-01T00:00:00Z".parse().unwrap()));
    write(&files, FIRST);
    let tls = Tls::load(&files).unwrap();
    assert!(tls.expiry_warning(Timestamp::now()).is_none());
    assert_eq!(tls.current.load().expires, Some("2120-01-01T00:00:00Z".parse().unwrap()));
}

#[tokio::test]
async fn only_valid_certificate_replaces_the_current_one() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    write(&files, FIRST);
    let (tls, counters) = (Tls::load(&files).unwrap(), CertificateCounters::default());
    let first = tls.server_config();
    let is_first = || Arc::ptr_eq(&first, &tls.server_config());
    let counts = || (counters.renewed.get(), counters.rejected.get());
    tls.reload(&counters).await;
    assert!(is_first());
    assert_eq!(counts(), (0, 0));
    // The files are replaced one after the other.
    write(&files, [SECOND[0], FIRST[1]]);
    tls.reload(&counters).await;
    tls.reload(&counters).await;
    assert!(is_first());
    assert_eq!(counts(), (0, 1));
    write(&files, ["", FIRST[1]]);
    tls.reload(&counters).await;
    assert!(is_first());
    assert_eq!(counts(), (0, 2));
    // The first certificate returns, and then the same error.
    write(&files, FIRST);
    tls.reload(&counters).await;
    write(&files, ["", FIRST[1]]);
    tls.reload(&counters).await;
    assert!(is_first());
    assert_eq!(counts(), (0, 3));
    write(&files, SECOND);
    tls.reload(&counters).await;
    assert!(!is_first());
    assert_eq!(counts(), (1, 3));
}
