//! HTTP server for tests that sends prepared responses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

/// Part of a test server's response.
#[derive(Clone)]
pub enum ResponsePart {
    Bytes(Vec<u8>),
    /// Sends no data for 20 ms.
    Pause,
    /// Leaves the connection open for the next request.
    KeepAlive,
}

pub fn bytes_part(text: impl Into<Vec<u8>>) -> ResponsePart {
    ResponsePart::Bytes(text.into())
}

/// Returns a whole response with its length.
pub fn http_response(status: &str, headers: &str, body: &str) -> Vec<ResponsePart> {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    vec![bytes_part(text), ResponsePart::KeepAlive]
}

pub fn redirect(status: &str, location: &str) -> Vec<ResponsePart> {
    http_response(status, &format!("location: {location}\r\n"), "")
}

#[derive(Default)]
struct RecordedTraffic {
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

/// Test server. Its threads end with their connections, or with the test process.
pub struct TestServer {
    address: SocketAddr,
    traffic: Arc<RecordedTraffic>,
}

impl TestServer {
    /// Starts a server that answers each request with the parts from `handler`. It then
    /// closes the connection, unless a part is [`ResponsePart::KeepAlive`].
    pub fn start(handler: impl Fn(&str) -> Vec<ResponsePart> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, traffic) =
            (listener.local_addr().unwrap(), Arc::new(RecordedTraffic::default()));
        let (reply, thread_traffic) = (Arc::new(handler), Arc::clone(&traffic));
        thread::spawn(move || {
            for connection in listener.incoming() {
                thread_traffic.connections.fetch_add(1, Relaxed);
                let (reply, traffic) = (Arc::clone(&reply), Arc::clone(&thread_traffic));
                thread::spawn(move || serve_connection(connection.unwrap(), &*reply, &traffic));
            }
        });
        Self { address, traffic }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the requests received until now.
    pub fn requests(&self) -> Vec<String> {
        self.traffic.requests.lock().clone()
    }

    pub fn connections(&self) -> usize {
        self.traffic.connections.load(Relaxed)
    }
}

fn serve_connection(
    mut connection: TcpStream,
    handler: &dyn Fn(&str) -> Vec<ResponsePart>,
    traffic: &RecordedTraffic,
) {
    while let Some(request) = read_request(&mut connection) {
        traffic.requests.lock().push(request.clone());
        let mut keep = false;
        for part in handler(&request) {
            match part {
                ResponsePart::Bytes(bytes) if connection.write_all(&bytes).is_err() => return,
                ResponsePart::Bytes(_) => {}
                ResponsePart::Pause => thread::sleep(Duration::from_millis(20)),
                ResponsePart::KeepAlive => keep = true,
            }
        }
        if !keep {
            return;
        }
    }
}

/// Reads one request with its body.
fn read_request(connection: &mut TcpStream) -> Option<String> {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text.into_owned());
            }
        }
        let mut more = [0; 1024];
        let read = connection.read(&mut more).ok().filter(|read| *read > 0)?;
        received.extend(&more[..read]);
    }
}
