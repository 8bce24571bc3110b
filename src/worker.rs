//! Serving devices to other rotnet processes, through burn's remote server over a websocket.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use burn::server::{RemoteServer, TokenAuthorizer, WebSocketTransport};
use burn::tensor::Device;

use crate::device::{self, DeviceName};
use crate::error::{Error, Result};

/// A worker that is bound to its address and has opened its devices.
pub struct Worker {
    listener: TcpListener,
    address: SocketAddr,
    devices: Vec<Device>,
    token: Option<String>,
}

impl Worker {
    /// Opens `devices` and binds to `listen` (`host:port`; port 0 takes a free one). Clients must show `token`.
    ///
    /// # Errors
    /// [`Error::Usage`] if the address cannot be had, or can be reached from elsewhere and there is no token;
    /// [`Error::Device`] if a device cannot be used or is another worker's.
    pub fn new(listen: &str, devices: &[DeviceName], token: Option<String>) -> Result<Self> {
        let usage = |problem: String, hint: &str| Error::Usage { problem, hint: hint.into() };
        let taken = |error: std::io::Error| {
            usage(format!("cannot listen on {listen}: {error}"), "for example --listen 127.0.0.1:3000")
        };
        let mut addresses = listen.to_socket_addrs().map_err(taken)?;
        let open = addresses.clone().any(|address| !address.ip().is_loopback());
        if open && token.is_none() {
            return Err(usage(
                format!("{listen} can be reached from other machines, and whoever reaches it computes here"),
                "make a token (`openssl rand -hex 32 > token`) and add --token-file token",
            ));
        }
        if let Some(other) = devices.iter().find(|device| device.is_remote()) {
            return Err(usage(format!("{other} is another worker's device"), "name it to the client itself"));
        }
        let devices = devices.iter().map(device::open).collect::<Result<_>>()?;
        let address = addresses.next().ok_or_else(|| taken(std::io::ErrorKind::AddrNotAvailable.into()))?;
        let listener = TcpListener::bind(address).map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        Ok(Self { listener, address, devices, token })
    }

    /// The name of its first device.
    pub fn name(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// What whoever started it ought to know.
    pub fn warning(&self) -> Option<&'static str> {
        (!self.address.ip().is_loopback()).then_some(
            "the connection is not encrypted: whoever can read the network reads the token, the images and the \
             parameters; use a private network",
        )
    }

    /// Serves until the process is stopped by Ctrl-C or SIGTERM.
    ///
    /// # Errors
    /// [`Error::Device`] if burn's server gives up.
    pub fn serve(self) -> Result<()> {
        let failed = |problem: String| Error::Device {
            device: format!("ws://{}", self.address),
            problem,
            hint: "all devices of a worker are of one engine".into(),
        };
        let mut server = RemoteServer::new(self.devices);
        if let Some(token) = self.token {
            server = server
                .with_authorizer(TokenAuthorizer::new(token).map_err(|error| failed(error.to_string()))?);
        }
        let transport = WebSocketTransport::from_listener(self.listener);
        server.serve(transport).map_err(|error| failed(error.to_string()))
    }
}
