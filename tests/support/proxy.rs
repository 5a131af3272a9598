//! A network that fails on demand: a TCP proxy between the program and a server.
//!
//! What a broken network does to a migration cannot be seen by killing processes: a reply can be lost although the
//! server did the work, and a link can go silent without an error. The proxy forwards bytes and, when a test says
//! so, cuts, stalls, or loses one particular reply. It goes along with any protocol; of Postgres it also understands
//! where a statement begins, so that a fault can be tied to a statement.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    FromServer,
}

/// The proxy. Gone, with all its connections, when this value is.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    stalled: bool,
    script: Vec<Fault>,
    fired: usize,
    links: Vec<Arc<Link>>,
}

/// What is to happen once. Counters run over all connections.
#[derive(Debug)]
enum Fault {
    Cut {
        direction: Direction,
        bytes: usize,
    },
    /// Let this COMMIT (1 is the next one) through, and cut before its reply.
    LoseReply {
        commit: usize,
    },
    /// Send ROLLBACK instead of this COMMIT, which is answered as the COMMIT of an aborted transaction is.
    RollBack {
        commit: usize,
    },
    /// Hold the connection of the first statement that holds this text.
    Hold {
        text: String,
        held: bool,
    },
}

/// A client's connection and the one to the server that serves it.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    server: TcpStream,
    /// The next reply is not to arrive.
    lose_reply: AtomicBool,
    cut: AtomicBool,
}

impl Link {
    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        // An error means that it is cut already.
        drop(self.client.shutdown(Shutdown::Both));
        drop(self.server.shutdown(Shutdown::Both));
    }
}

impl Proxy {
    /// A proxy to the server of a URL, of which only host and port count.
    pub fn to(url: &str) -> Self {
        let url = Url::parse(url).unwrap();
        let port = url.port().or_else(|| url.port_or_known_default()).unwrap();
        Self::start((url.host_str().unwrap(), port))
    }

    /// A proxy to a server.
    pub fn start(target: impl ToSocketAddrs) -> Self {
        let target = target.to_socket_addrs().unwrap().next().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { target, state: Mutex::default(), changed: Condvar::new() });
        let accepting = shared.clone();
        std::thread::spawn(move || accepting.accept(&listener));
        Self { address, shared }
    }

    /// The same URL, through the proxy.
    pub fn url(&self, url: &str) -> String {
        let mut url = Url::parse(url).unwrap();
        url.set_host(Some(&self.address.ip().to_string())).unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.into()
    }

    /// Cuts all connections that are open now.
    pub fn cut_all(&self) {
        for link in &self.shared.state().links {
            link.cut();
        }
    }

    /// Cuts the connection over which the byte with this number goes, counted from now over all connections.
    pub fn cut_after(&self, bytes: usize, direction: Direction) {
        self.shared.state().script.push(Fault::Cut { direction, bytes });
    }

    /// Forwards nothing from now on. Connections are still accepted.
    pub fn stall(&self) {
        self.shared.state().stalled = true;
    }

    /// Ends a stall and lets go of what is held.
    pub fn resume(&self) {
        let mut state = self.shared.state();
        state.stalled = false;
        state.script.retain(|fault| !matches!(fault, Fault::Hold { .. }));
        self.shared.changed.notify_all();
    }

    /// Loses the reply to a COMMIT from now on (1 is the next one): the server has done it, the client cannot know.
    pub fn lose_reply_to_commit(&self, number: usize) {
        self.shared.state().script.push(Fault::LoseReply { commit: number });
    }

    /// Makes a COMMIT from now on (1 is the next one) that of an aborted transaction.
    pub fn abort_commit(&self, number: usize) {
        self.shared.state().script.push(Fault::RollBack { commit: number });
    }

    /// Stalls the connection that sends the first statement with this text, until [`Proxy::resume`].
    pub fn hold(&self, text: &str) {
        self.shared.state().script.push(Fault::Hold { text: text.to_owned(), held: false });
    }

    /// How many of the scripted faults have happened.
    pub fn fired(&self) -> usize {
        self.shared.state().fired
    }

    /// Waits until so many of the scripted faults have happened; false if they do not within a minute.
    pub fn wait_fired(&self, count: usize) -> bool {
        let start = Instant::now();
        while self.fired() < count {
            if start.elapsed() > Duration::from_secs(60) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        state.links.iter().for_each(|link| link.cut());
        self.shared.changed.notify_all();
        drop(state);
        // Wakes the thread that accepts, which then sees that it is over.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.state().closed {
                return;
            }
            let Ok(client) = client else { continue };
            // A server that is down refuses; to the client the connection ends at once.
            let Ok(server) = TcpStream::connect(self.target) else { continue };
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let link = Arc::new(Link {
                client,
                server,
                lose_reply: AtomicBool::new(false),
                cut: AtomicBool::new(false),
            });
            let mut state = self.state();
            state.links.retain(|link| !link.cut.load(Ordering::SeqCst));
            state.links.push(link.clone());
            drop(state);
            let (shared, of) = (self.clone(), link.clone());
            std::thread::spawn(move || shared.to_server(&of));
            let shared = self.clone();
            std::thread::spawn(move || shared.to_client(&link));
        }
    }

    fn to_server(&self, link: &Link) {
        let mut messages = Messages::default();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(size @ 1..) = (&link.client).read(&mut buffer) {
            messages.take(&buffer[..size]);
            while let Some(Part { bytes, statement }) = messages.next() {
                let instead = statement.and_then(|statement| self.on_statement(link, &statement));
                if !self.forward(link, instead.as_deref().unwrap_or(&bytes), Direction::ToServer) {
                    return link.cut();
                }
            }
        }
        // The client's end of the conversation; what the server still has to say goes on arriving.
        drop(link.server.shutdown(Shutdown::Write));
    }

    fn to_client(&self, link: &Link) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(size @ 1..) = (&link.server).read(&mut buffer) {
            if link.lose_reply.load(Ordering::SeqCst)
                || !self.forward(link, &buffer[..size], Direction::FromServer)
            {
                break;
            }
        }
        link.cut();
    }

    /// Waits while the network is silent. False when the connection is over.
    fn pass(&self, link: &Link, blocked: impl Fn(&State) -> bool) -> bool {
        let mut state = self.state();
        while (state.stalled || blocked(&state)) && !state.closed && !link.cut.load(Ordering::SeqCst) {
            let waiting = self.changed.wait_timeout(state, Duration::from_millis(50));
            state = waiting.unwrap_or_else(PoisonError::into_inner).0;
        }
        !state.closed && !link.cut.load(Ordering::SeqCst)
    }

    /// Sends what may be sent; false when the connection is to be cut.
    fn forward(&self, link: &Link, bytes: &[u8], direction: Direction) -> bool {
        if !self.pass(link, |_| false) {
            return false;
        }
        let mut allowed = bytes.len();
        let mut state = self.state();
        let mut due = None;
        for (index, fault) in state.script.iter_mut().enumerate() {
            if let Fault::Cut { direction: of, bytes: left } = fault
                && *of == direction
            {
                if *left <= bytes.len() {
                    (allowed, due) = (*left, Some(index));
                    break;
                }
                *left -= bytes.len();
            }
        }
        if let Some(index) = due {
            state.script.remove(index);
            state.fired += 1;
        }
        drop(state);
        let mut to = match direction {
            Direction::ToServer => &link.server,
            Direction::FromServer => &link.client,
        };
        to.write_all(&bytes[..allowed]).is_ok() && due.is_none()
    }

    /// A statement is about to go to the server: what is sent instead, if something is.
    fn on_statement(&self, link: &Link, statement: &str) -> Option<Vec<u8>> {
        let is_commit =
            statement.trim_start().get(..6).is_some_and(|start| start.eq_ignore_ascii_case("commit"));
        let mut state = self.state();
        let mut holds = false;
        let mut happens = None;
        for (index, fault) in state.script.iter_mut().enumerate() {
            match fault {
                Fault::LoseReply { commit } | Fault::RollBack { commit } if is_commit => {
                    *commit -= 1;
                    if *commit == 0 {
                        happens = Some(index);
                    }
                }
                Fault::Hold { text, held } if !*held && statement.contains(text.as_str()) => {
                    *held = true;
                    holds = true;
                }
                _ => {}
            }
        }
        state.fired += usize::from(holds) + usize::from(happens.is_some());
        let fault = happens.map(|index| state.script.remove(index));
        drop(state);
        if holds {
            self.pass(link, |state| {
                state.script.iter().any(|fault| matches!(fault, Fault::Hold { text, held: true } if statement.contains(text.as_str())))
            });
        }
        match fault {
            Some(Fault::LoseReply { .. }) => {
                link.lose_reply.store(true, Ordering::SeqCst);
                None
            }
            Some(Fault::RollBack { .. }) => {
                let mut message = vec![b'Q'];
                message.extend(u32::try_from(4 + "rollback\0".len()).unwrap().to_be_bytes());
                message.extend(b"rollback\0");
                Some(message)
            }
            _ => None,
        }
    }
}

/// The client's bytes, cut so that each statement of a Postgres client comes in one piece of its own. The bytes of
/// another protocol come as they are.
#[derive(Debug, Default)]
struct Messages {
    waiting: Vec<u8>,
    protocol: Protocol,
    /// Bytes of a message whose beginning was passed on.
    rest: usize,
}

/// What goes to the server in one piece.
struct Part {
    bytes: Vec<u8>,
    /// The text of the statement that it is, if it is one.
    statement: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    #[default]
    Unknown,
    Postgres,
    Other,
}

impl Messages {
    fn take(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<Part> {
        if self.waiting.is_empty() {
            return None;
        }
        if self.protocol == Protocol::Unknown {
            // The first message of Postgres has no type, only a length, which begins with a zero.
            if self.waiting.len() < 8 && self.waiting[0] == 0 {
                return None;
            }
            let length = match (self.number(0), self.number(4)) {
                // A version; or the question whether there is TLS or GSS, after which the version comes.
                (Some(length @ 8..10_000), Some(0x3_0000..=0x3_ffff)) => {
                    self.protocol = Protocol::Postgres;
                    length
                }
                (Some(length @ 8..10_000), Some(80_877_102..=80_877_104)) => length,
                _ => {
                    self.protocol = Protocol::Other;
                    return self.next();
                }
            };
            return Some(self.begin(length as usize));
        }
        if self.protocol == Protocol::Other {
            self.rest = self.waiting.len();
        }
        if self.rest > 0 {
            let rest = std::mem::take(&mut self.rest);
            return Some(self.begin(rest));
        }
        let size = 1 + self.number(1)? as usize;
        // Statements whole, everything else as it comes: a COPY's data is large and of no interest.
        let is_statement = matches!(self.waiting[0], b'Q' | b'P');
        if is_statement && size > self.waiting.len() {
            return None;
        }
        let mut part = self.begin(size);
        part.statement = if is_statement { statement(&part.bytes) } else { None };
        Some(part)
    }

    /// What is there of a message of this size.
    fn begin(&mut self, size: usize) -> Part {
        let now = size.min(self.waiting.len());
        self.rest = size - now;
        Part { bytes: self.waiting.drain(..now).collect(), statement: None }
    }

    fn number(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(self.waiting.get(at..at + 4)?.try_into().ok()?))
    }
}

/// The text of a statement, of the simple protocol (`Q`) or the extended one (`P`).
fn statement(message: &[u8]) -> Option<String> {
    let body = message.get(5..)?;
    let text = match message[0] {
        b'Q' => body,
        // The statement's name comes first.
        b'P' => body.splitn(2, |byte| *byte == 0).nth(1)?,
        _ => return None,
    };
    let end = text.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&text[..end]).into_owned())
}
