//! The display: whether there is one, and a virtual one for tests.
//!
//! It does not know what is shown on it.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Whether a window could open here, as far as the environment tells.
pub fn present() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !cfg!(target_os = "linux") || set("DISPLAY") || set("WAYLAND_DISPLAY")
}

/// An X server that shows nothing, on a display number nobody uses. Ends when dropped.
pub struct VirtualDisplay {
    server: Child,
    /// The value for DISPLAY, such as ":7".
    pub name: String,
}

impl VirtualDisplay {
    /// Starts one; it is ready to be drawn on when this returns.
    pub fn start() -> Result<VirtualDisplay> {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start Xvfb")?;
        let stdout = server.stdout.take().context("Xvfb's stdout")?;
        let mut number = String::new();
        BufReader::new(stdout).read_line(&mut number).context("Xvfb's display number")?;
        let number = number.trim();
        if number.is_empty() {
            let _ = server.kill();
            let _ = server.wait();
            bail!("Xvfb ended before it named its display");
        }
        Ok(VirtualDisplay { server, name: format!(":{number}") })
    }
}

impl Drop for VirtualDisplay {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
