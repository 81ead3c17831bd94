//! A server that says what it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A part of an answer.
#[derive(Clone)]
pub enum Part {
    Say(Vec<u8>),
    /// Says nothing for 20 ms.
    Pause,
    /// Leaves the connection open for the next request.
    Keep,
}

pub fn say(text: impl Into<Vec<u8>>) -> Part {
    Part::Say(text.into())
}

/// A whole answer, with its length.
pub fn answer(status: &str, headers: &str, body: &str) -> Vec<Part> {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    vec![say(text), Part::Keep]
}

pub fn redirect(status: &str, location: &str) -> Vec<Part> {
    answer(status, &format!("location: {location}\r\n"), "")
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

/// Its threads end with their connections, or with the test.
pub struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
}

impl Server {
    /// Answers each request with the parts that `reply` makes of it. Then it
    /// closes the connection, unless told to keep it.
    pub fn start(reply: impl Fn(&str) -> Vec<Part> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Seen::default()));
        let (reply, seeing) = (Arc::new(reply), Arc::clone(&seen));
        thread::spawn(move || {
            for connection in listener.incoming() {
                seeing.connections.fetch_add(1, Relaxed);
                let (reply, seeing) = (Arc::clone(&reply), Arc::clone(&seeing));
                thread::spawn(move || converse(connection.unwrap(), &*reply, &seeing));
            }
        });
        Self { address, seen }
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

    /// The requests so far.
    pub fn heard(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Relaxed)
    }
}

fn converse(mut connection: TcpStream, reply: &dyn Fn(&str) -> Vec<Part>, seen: &Seen) {
    while let Some(request) = hear(&mut connection) {
        seen.requests.lock().unwrap().push(request.clone());
        let mut keep = false;
        for part in reply(&request) {
            match part {
                Part::Say(bytes) if connection.write_all(&bytes).is_err() => return,
                Part::Say(_) => {}
                Part::Pause => thread::sleep(Duration::from_millis(20)),
                Part::Keep => keep = true,
            }
        }
        if !keep {
            return;
        }
    }
}

/// One request, with its body.
fn hear(connection: &mut TcpStream) -> Option<String> {
    let mut heard = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&heard);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text.into_owned());
            }
        }
        let mut more = [0; 1024];
        let read = connection.read(&mut more).ok().filter(|read| *read > 0)?;
        heard.extend(&more[..read]);
    }
}
