//! Devices of another process, through burn's own remote engine.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use burn::remote::{ConnectError, RemoteHost};
use burn::tensor::Device;

use super::DeviceName;
use super::token::read_token;
use crate::error::{Error, Result};

/// Environment variable with the path of the file that holds the worker's token.
pub const TOKEN_FILE: &str = "ROTNET_TOKEN_FILE";

/// How long to wait for an address.
const PATIENCE: Duration = Duration::from_secs(5);
const START: &str = "start `rotnet worker` there, of the same version of rotnet";

/// Connects to a device of a worker.
///
/// # Errors
/// [`Error::Device`] if no worker answers, or it refuses the token or this version of burn; [`Error::Io`] if the
/// file that [`TOKEN_FILE`] names cannot be read.
pub(super) fn open(name: &DeviceName) -> Result<Device> {
    let refused = |problem: String, hint: &str| Error::Device {
        device: name.to_string(),
        problem,
        hint: hint.to_owned(),
    };
    let (host, index) = match name {
        DeviceName::WebSocket { url, index } => {
            let unreachable = |error: io::Error| refused(format!("nothing answers there: {error}"), START);
            reach(url.trim_start_matches("ws://")).map_err(unreachable)?;
            (RemoteHost::websocket(url), *index)
        }
        DeviceName::Iroh { id, index } => {
            let id = id.parse::<burn::remote::EndpointId>();
            let id =
                id.map_err(|error| refused(error.to_string(), "copy the name that the worker printed"))?;
            (RemoteHost::iroh(id), *index)
        }
        _ => return Err(refused("it is not a worker's device".into(), "")),
    };
    let host = match std::env::var_os(TOKEN_FILE) {
        Some(path) => host.with_credential(read_token(path.as_ref())?),
        None => host,
    };
    Device::remote_options(&host).device_index(index).init().map_err(|error| {
        let hint = match &error {
            ConnectError::Unauthorized => {
                "put the worker's token into a file, and its path into ROTNET_TOKEN_FILE"
            }
            ConnectError::NoSuchDevice { .. } => {
                "devices are numbered from 0, in the order given to `rotnet worker`"
            }
            _ => START,
        };
        refused(error.to_string().lines().collect::<Vec<_>>().join(" "), hint)
    })
}

/// Checks that something answers: burn itself would dial for 16 seconds.
fn reach(address: &str) -> io::Result<()> {
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for address in address.to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&address, PATIENCE).map(drop);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
