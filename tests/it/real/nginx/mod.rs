//! nginx, as the distribution has it, for a hop between client and server.
//!
//! Where there is none these tests say so and pass, unless `STEADFAST_REQUIRE_NGINX` is set, as it is where
//! it is decided whether a change may land.

use std::{
    env, fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use tokio::net::{TcpSocket, TcpStream};

use super::ms;

mod grpc;
mod http;

/// An nginx before one server. Ended, and all that it wrote gone, when dropped, so also by a panic.
struct Nginx {
    process: Child,
    directory: PathBuf,
    address: SocketAddr,
    /// Keeps the port for this process: nginx shares it, and nobody else can.
    _port: TcpSocket,
}

impl Nginx {
    /// Hands requests on to `upstream`, frame by frame, and waits for it as long as nobody hangs up.
    async fn before(upstream: SocketAddr) -> Option<Self> {
        Self::waiting(upstream, "1h").await
    }

    /// The same, but answers 504 in place of an upstream that says nothing for `patience`.
    async fn waiting(upstream: SocketAddr, patience: &str) -> Option<Self> {
        let location = format!(
            "proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header connection \"\";\n\
             proxy_buffering off; proxy_read_timeout {patience};"
        );
        Self::start("", &location).await
    }

    /// Speaks HTTP/2 without TLS, and hands on calls of gRPC.
    async fn before_grpc(upstream: SocketAddr) -> Option<Self> {
        let location = format!("grpc_pass grpc://{upstream}; grpc_read_timeout 1h;");
        Self::start("http2", &location).await
    }

    async fn start(protocol: &str, location: &str) -> Option<Self> {
        let Some(program) = find() else {
            skip();
            return None;
        };
        let port = TcpSocket::new_v4().unwrap();
        port.set_reuseport(true).unwrap();
        port.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = port.local_addr().unwrap();

        static STARTED: AtomicU32 = AtomicU32::new(0);
        let nth = STARTED.fetch_add(1, SeqCst);
        let directory = env::temp_dir().join(format!("steadfast-nginx-{}-{nth}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let config = config(&directory, address, protocol, location);
        fs::write(directory.join("nginx.conf"), config).unwrap();

        let process = Command::new(program)
            .arg("-p")
            .arg(&directory)
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut this = Self {
            process,
            directory,
            address,
            _port: port,
        };
        this.is_up().await;
        Some(this)
    }

    /// Waits until it accepts connections.
    async fn is_up(&mut self) {
        while TcpStream::connect(self.address).await.is_err() {
            if let Some(status) = self.process.try_wait().unwrap() {
                let log = fs::read_to_string(self.directory.join("error.log"));
                panic!("nginx is gone, {status}: {}", log.unwrap_or_default());
            }
            tokio::time::sleep(ms(5)).await;
        }
    }

    fn url(&self) -> String {
        super::peer::url(self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // One process and no other, by its configuration, so that nothing of it is left behind.
        let _gone = self.process.kill();
        let _gone = self.process.wait();
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

/// On the path, or where Debian has it, which is not on everybody's.
fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    directories
        .map(|directory| directory.join("nginx"))
        .find(|program| program.is_file())
}

fn skip() {
    let required = env::var_os("STEADFAST_REQUIRE_NGINX").is_some();
    assert!(!required, "there is no nginx on the path or in /usr/sbin");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Past the test harness, which keeps back what a test that passes prints.
    let line = format!("SKIPPED {test}: there is no nginx on the path or in /usr/sbin\n");
    let _unread = io::stderr().write_all(line.as_bytes());
}

fn config(directory: &Path, address: SocketAddr, protocol: &str, location: &str) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let paths = kinds.map(|kind| format!("{kind}_temp_path {kind};"));
    let directory = directory.display();
    format!(
        "daemon off; master_process off; pid {directory}/pid;\n\
         events {{}}\n\
         http {{\n\
           access_log off; {}\n\
           server {{\n\
             listen {address} {protocol} reuseport;\n\
             location / {{ {location} }}\n\
           }}\n\
         }}\n",
        paths.join(" "),
    )
}
