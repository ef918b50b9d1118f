//! A server on loopback that does what it is told, for better or worse.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
};

use super::ms;

/// What becomes of a request.
pub(crate) enum Act {
    /// Answered with this status line, header lines (each with its CRLF) and body.
    Answer(&'static str, &'static str, String),
    /// The connection ends in the middle of the response's head.
    Cut,
    /// The request is read, and that is all that ever happens.
    Hang,
}

impl Act {
    pub(crate) fn ok() -> Self {
        Self::Answer("200 OK", "", "fine".to_owned())
    }

    pub(crate) fn unavailable(body: impl Into<String>) -> Self {
        Self::Answer("503 Service Unavailable", "", body.into())
    }
}

/// An address at which nobody answers, and which nobody else can get.
pub(crate) struct Absent {
    socket: TcpSocket,
}

impl Absent {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self { socket }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub(crate) fn listen(self) -> TcpListener {
        self.socket.listen(64).unwrap()
    }

    /// The server is back. `script` says what becomes of the nth request, counted from one.
    pub(crate) fn appear(self, script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Peer {
        let address = self.address();
        let seen = Seen::default();
        let task = tokio::spawn(accept(self.listen(), Arc::new(script), seen.clone()));
        Peer {
            address,
            seen,
            task,
        }
    }
}

/// The method and body of every request.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// An HTTP/1.1 server, one request for each connection. Gone when dropped.
pub(crate) struct Peer {
    address: SocketAddr,
    seen: Seen,
    task: JoinHandle<()>,
}

impl Peer {
    pub(crate) fn new(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        Absent::new().appear(script)
    }

    pub(crate) fn url(&self) -> String {
        url(self.address)
    }

    /// The method and body of every request so far.
    pub(crate) fn seen(&self) -> Vec<(String, String)> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Waits until so many requests have arrived.
    pub(crate) async fn reached_by(&self, requests: usize) {
        while self.requests() < requests {
            tokio::time::sleep(ms(1)).await;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}/")
}

async fn accept(
    listener: TcpListener,
    script: Arc<impl Fn(usize) -> Act + Send + Sync + 'static>,
    seen: Seen,
) {
    let mut connections = JoinSet::new(); // all ended with this task
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&script), seen.clone()));
    }
}

async fn serve(mut stream: TcpStream, script: Arc<impl Fn(usize) -> Act>, seen: Seen) {
    let Some(request) = read_request(&mut stream).await else {
        return; // a connection that was opened in vain
    };
    let nth = {
        let mut seen = seen.lock().unwrap();
        seen.push(request);
        seen.len()
    };
    let response = match script(nth) {
        Act::Answer(status, headers, body) => {
            let length = body.len();
            format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\
                 {headers}\r\n{body}"
            )
        }
        Act::Cut => "HTTP/1.1 200 OK\r\ncontent-le".to_owned(),
        Act::Hang => std::future::pending().await,
    };
    let _gone = stream.write_all(response.as_bytes()).await;
    let _gone = stream.shutdown().await;
}

/// The method and the body.
async fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.trim().parse().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                let method = head.split(' ').next().unwrap();
                return Some((method.to_owned(), body.to_owned()));
            }
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}
