//! Serving devices to other rotnet processes, through burn's remote server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};

use burn::server::{
    IrohIdentity, IrohTransport, RemoteServer, TokenAuthorizer, Transport, WebSocketTransport,
};
use burn::tensor::Device;

use crate::device::{self, DeviceName};
use crate::error::{Error, Result};

/// How clients reach a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// By websocket on `host:port`, unencrypted; port 0 takes a free one.
    Address(String),
    /// By iroh, encrypted, with the key in this file, which is made where there is none.
    Key(PathBuf),
}

/// A worker that listens and has opened its devices.
pub struct Worker {
    name: String,
    warning: Option<&'static str>,
    transport: Transport,
    server: RemoteServer,
}

impl Worker {
    /// Opens `devices` and listens. Clients must show `token`, where there is one.
    ///
    /// # Errors
    /// [`Error::Usage`] if the address cannot be had, or can be reached from elsewhere and there is no token;
    /// [`Error::Io`] if the key can neither be read nor written; [`Error::Device`] if a device cannot be used.
    pub fn new(listen: &Listen, devices: &[DeviceName], token: Option<String>) -> Result<Self> {
        if let Some(other) = devices.iter().find(|device| device.is_remote()) {
            return Err(usage(format!("{other} is another worker's device"), "name it to the client itself"));
        }
        let (name, warning, transport) = match listen {
            Listen::Address(address) => websocket(address, token.is_some())?,
            Listen::Key(path) => iroh(path, token.is_some())?,
        };
        let devices = devices.iter().map(device::open).collect::<Result<Vec<Device>>>()?;
        let mut server = RemoteServer::new(devices);
        if let Some(token) = token {
            let refused = |error: burn::server::EmptyToken| usage(error.to_string(), NEW_TOKEN);
            server = server.with_authorizer(TokenAuthorizer::new(token).map_err(refused)?);
        }
        Ok(Self { name, warning, transport, server })
    }

    /// The name of its first device.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What whoever started it ought to know.
    pub fn warning(&self) -> Option<&'static str> {
        self.warning
    }

    /// Serves until the process is stopped by Ctrl-C or SIGTERM.
    ///
    /// # Errors
    /// [`Error::Device`] if burn's server gives up.
    pub fn serve(self) -> Result<()> {
        self.server.serve(self.transport).map_err(|error| Error::Device {
            device: self.name,
            problem: error.to_string(),
            hint: "all devices of a worker are of one engine".into(),
        })
    }
}

const NEW_TOKEN: &str = "make a token (`openssl rand -hex 32 > token`) and add --token-file token";

fn usage(problem: String, hint: &str) -> Error {
    Error::Usage { problem, hint: hint.into() }
}

fn websocket(listen: &str, token: bool) -> Result<(String, Option<&'static str>, Transport)> {
    let failed = |error: std::io::Error| {
        usage(format!("cannot listen on {listen}: {error}"), "for example --listen 127.0.0.1:3000")
    };
    let address = listen.to_socket_addrs().map_err(failed)?.next();
    let address = address.ok_or_else(|| failed(std::io::ErrorKind::AddrNotAvailable.into()))?;
    let open = !address.ip().is_loopback();
    if open && !token {
        let problem =
            format!("{listen} can be reached from other machines, and whoever reaches it computes here");
        return Err(usage(problem, NEW_TOKEN));
    }
    let listener = TcpListener::bind(address).map_err(failed)?;
    let name = format!("ws://{}", reachable(listener.local_addr().map_err(failed)?));
    let warning = open.then_some(
        "the connection is not encrypted: whoever can read the network reads the token, the images and the \
         parameters; use a private network, or --iroh",
    );
    Ok((name, warning, WebSocketTransport::from_listener(listener).into()))
}

/// Where to reach a socket that may listen on all addresses: there by the one that packets to elsewhere leave from.
fn reachable(listening: SocketAddr) -> SocketAddr {
    if !listening.ip().is_unspecified() {
        return listening;
    }
    // Addresses of documentation, RFC 5737 and RFC 3849; nothing is sent, connecting only looks up the route.
    let (elsewhere, loopback) = match listening {
        SocketAddr::V4(_) => ("192.0.2.1:9", IpAddr::from(Ipv4Addr::LOCALHOST)),
        SocketAddr::V6(_) => ("[2001:db8::1]:9", IpAddr::from(Ipv6Addr::LOCALHOST)),
    };
    let leaving = UdpSocket::bind((listening.ip(), 0))
        .and_then(|socket| socket.connect(elsewhere).and_then(|()| socket.local_addr()));
    let address = leaving.map_or(loopback, |address| address.ip());
    SocketAddr::new(address, listening.port())
}

fn iroh(key: &Path, token: bool) -> Result<(String, Option<&'static str>, Transport)> {
    if !token {
        return Err(usage("whoever knows a worker's public key can reach it".into(), NEW_TOKEN));
    }
    let identity = IrohIdentity::load_or_create(key).map_err(Error::io("read or create", key))?;
    let transport = IrohTransport::new(identity);
    let name = format!("iroh:{}", transport.id());
    Ok((
        name,
        Some("found through the public relays of n0 (iroh.computer); the data are encrypted"),
        transport.into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_on_all_addresses_is_named_by_one_that_can_be_dialled() {
        for listening in ["0.0.0.0:3000", "[::]:3000"] {
            let name = reachable(listening.parse().unwrap());
            assert!(!name.ip().is_unspecified() && name.port() == 3000, "{name}");
        }
        let one = "10.0.0.2:3000".parse().unwrap();
        assert_eq!(reachable(one), one);
    }
}
