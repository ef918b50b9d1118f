//! Calls that come by the clock, over TCP, whether or not earlier ones were answered.
//!
//! HTTP/1.1 over connections that are kept, of which each carries one call at a time, and spoken by hand: of
//! two cores a client must leave the server what it needs, ten times over.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

/// One call, over. Times count from the start of the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// When it was to be sent.
    pub(crate) due: Duration,
    /// How much later than that it was.
    pub(crate) late: Duration,
    /// When it was over, however it ended.
    pub(crate) over: Duration,
    /// The answer, if there was one before the caller lost patience.
    pub(crate) status: Option<u16>,
}

impl Call {
    /// From when it was to be sent: what the driver lost is the caller's time too.
    pub(crate) fn latency(&self) -> Duration {
        self.over.saturating_sub(self.due)
    }

    pub(crate) fn is_good(&self) -> bool {
        self.status == Some(200)
    }
}

/// Sends a call at each of these times, and returns when the last one is over. Who is not answered within
/// `patience` hangs up.
///
/// # Errors
///
/// Those of sockets, and of a server that breaks off.
pub(crate) async fn drive(
    server: SocketAddr,
    due: &[Duration],
    patience: Duration,
) -> io::Result<Vec<Call>> {
    let client = Arc::new(Client {
        server,
        idle: Mutex::default(),
    });
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for &due in due {
        let at = start + due;
        if at > Instant::now() {
            sleep_until(at).await;
        }
        let client = Arc::clone(&client);
        calls.spawn(async move {
            let late = at.elapsed();
            let answered = timeout_at(at + patience, client.send()).await;
            io::Result::Ok(Call {
                due,
                late,
                over: start.elapsed(),
                status: answered.ok().transpose()?,
            })
        });
    }
    calls.join_all().await.into_iter().collect()
}

#[derive(Debug)]
struct Client {
    server: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: goodput\r\n\r\n";

impl Client {
    /// The status of the answer, once all of it is there. Dropped before, it hangs up.
    async fn send(&self) -> io::Result<u16> {
        let idle = self.idle().pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => TcpStream::connect(self.server).await?,
        };
        stream.write_all(REQUEST).await?;
        let status = read(&mut stream).await?;
        self.idle().push(stream);
        Ok(status)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<u16> {
    let mut answer = Vec::with_capacity(2048);
    loop {
        if let Some((status, length)) = head(&answer)
            && answer.len() >= length
        {
            return Ok(status);
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The status of an answer, and its length with head and body, once its head is there.
fn head(answer: &[u8]) -> Option<(u16, usize)> {
    let text = str::from_utf8(answer).ok()?;
    let (head, _) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length?.parse().ok()?;
    Some((status, head.len() + 4 + length))
}
