//! Certificates that tests make for themselves, with openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip::program_or_skip;

const EXTENSIONS: &str = "[req]\ndistinguished_name = subject\n[subject]\n\
    [ca]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = keyCertSign\n\
    [server]\nbasicConstraints = critical, CA:FALSE\nextendedKeyUsage = serverAuth\n\
    subjectAltName = DNS:receiver.test\n\
    [client]\nbasicConstraints = critical, CA:FALSE\nextendedKeyUsage = clientAuth\n\
    subjectAltName = DNS:scraper.test, IP:192.0.2.7, email:ops@scraper.test, URI:spiffe://test/scraper\n";

/// A folder with `ca.pem`, which signed `server.pem` (of the name `receiver.test`) and `client.pem`; and `other.pem`, an
/// authority that signed nothing. Each has its key beside it.
pub struct Certificates {
    folder: tempfile::TempDir,
    openssl: PathBuf,
}

impl Certificates {
    /// Makes them, or skips the test `name` aloud where there is no openssl.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn new(name: &str) -> Option<Self> {
        let openssl = program_or_skip(name, &["openssl"])?;
        let folder = tempfile::tempdir().expect("a folder can be made");
        let certificates = Certificates { folder, openssl };
        let configuration = certificates.path().join("openssl.cnf");
        std::fs::write(configuration, EXTENSIONS).expect("the folder can be written");
        certificates.make("ca", "ca", None);
        certificates.make("other", "ca", None);
        certificates.make("server", "server", Some("ca"));
        certificates.make("client", "client", Some("ca"));
        Some(certificates)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What openssl prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn openssl(&self, arguments: &str) -> String {
        let mut command = Command::new(&self.openssl);
        let run = command.args(arguments.split_whitespace()).current_dir(self.path()).output();
        let run = run.expect("openssl can be run");
        assert!(run.status.success(), "{arguments}: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).expect("openssl prints text")
    }

    /// Makes `name.pem` and `name.key` with these extensions, signed by the authority `by` or by itself.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn make(&self, name: &str, extensions: &str, by: Option<&str>) {
        let by = by.map_or(String::new(), |by| format!("-CA {by}.pem -CAkey {by}.key"));
        self.openssl(&format!(
            "req -x509 -config openssl.cnf -extensions {extensions} -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
             -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem {by}"
        ));
    }
}
