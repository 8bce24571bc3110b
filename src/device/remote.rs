//! Devices of another process, through burn's own remote engine.

use burn::remote::RemoteHost;
use burn::tensor::Device;

use super::DeviceName;
use super::token::read_token;
use crate::error::{Error, Result};

/// Environment variable that names the file with the token that workers ask for.
pub const TOKEN_FILE: &str = "ROTNET_TOKEN_FILE";

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
        DeviceName::WebSocket { url, index } => (RemoteHost::websocket(url), *index),
        DeviceName::Iroh { id, index } => {
            let id = id.parse::<burn::remote::EndpointId>();
            let id =
                id.map_err(|error| refused(error.to_string(), "copy the name that the worker printed"))?;
            (RemoteHost::iroh(id), *index)
        }
        _ => return Err(refused("it is no device of a worker".into(), "")),
    };
    let host = match std::env::var_os(TOKEN_FILE) {
        Some(path) => host.with_credential(read_token(path.as_ref())?),
        None => host,
    };
    Device::remote_options(&host).device_index(index).init().map_err(|error| {
        refused(
            error.to_string().lines().collect::<Vec<_>>().join(" "),
            "start `rotnet worker` there, with the same version of rotnet; its token goes into the file that \
             ROTNET_TOKEN_FILE names",
        )
    })
}
