//! Small messages leave at once.
//!
//! The end of a COPY is a message of its own, a few bytes behind the data. By default the system holds such a message
//! back until the other side has acknowledged what was sent before (Nagle's algorithm, RFC 896), and the other side takes
//! its time with that, as it expects to have something to say soon (delayed acknowledgements, RFC 1122, 4.2.3.2; 40 ms on
//! Linux). Each COPY then lasts 40 ms longer than its work, and a chunk has a COPY for each table. `TCP_NODELAY` ends
//! that, but the driver neither sets it nor hands out its socket.
//!
//! So the sockets are found among this process's open files. All of them get the option: there is none here that would
//! rather wait (MongoDB's driver sets it itself).

/// Sets `TCP_NODELAY` for all of this process's TCP connections. Where the system does not let us (an old kernel, a
/// container that forbids `pidfd_getfd`) they stay as they are, and COPY is slower.
#[cfg(target_os = "linux")]
pub(super) fn send_at_once() {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    let Ok(own) = pidfd_open(getpid(), PidfdFlags::empty()) else { return };
    let Ok(files) = std::fs::read_dir("/proc/self/fd") else { return };
    for file in files.flatten() {
        let is_socket = std::fs::read_link(file.path())
            .is_ok_and(|what| what.to_str().is_some_and(|what| what.starts_with("socket:")));
        let number = file.file_name().to_str().and_then(|name| name.parse().ok());
        if let (true, Some(number)) = (is_socket, number)
            && let Ok(socket) = pidfd_getfd(&own, number, PidfdGetfdFlags::empty())
        {
            // Sockets of other kinds do not know the option.
            rustix::net::sockopt::set_tcp_nodelay(socket, true).ok();
        }
    }
}

/// Elsewhere there is no safe way to the driver's socket.
#[cfg(not(target_os = "linux"))]
pub(super) fn send_at_once() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn connections_that_are_open_send_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!stream.nodelay().unwrap());
        send_at_once();
        assert!(stream.nodelay().unwrap());
    }
}
