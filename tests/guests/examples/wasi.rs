//! Tries every WASI interface, and returns in the URL how many resources it can access.
use std::net::TcpStream;
use std::time::SystemTime;

use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(_: &Call) -> Result<Decision> {
        let environment = std::env::vars().count();
        let arguments = std::env::args().count();
        let files = ["/", ".", "/etc/passwd"]
            .into_iter()
            .filter(|path| std::fs::read_dir(path).is_ok() || std::fs::read(path).is_ok())
            .count();
        let network = ["127.0.0.1:9000", "localhost:80"]
            .into_iter()
            .filter(|address| TcpStream::connect(address).is_ok())
            .count();
        let clock = SystemTime::now() > SystemTime::UNIX_EPOCH;
        Ok(route(format!(
            "ws://sts/?environment={environment}&arguments={arguments}&files={files}\
             &network={network}&clock={clock}"
        )))
    }
}

plugboard_sdk::export!(Guest: Router);
