//! What the system must have, how to see that it is there, and what each package manager calls it.
//!
//! Every install is announced first. It does not know Rust (`./dev` does) nor Node (`ui` does).

use crate::process::{command, has, output, run, say};
use anyhow::{Result, bail};

/// One thing the system must have.
pub struct Need {
    /// What to call it when talking to people.
    pub what: &'static str,
    /// How to see that it is there.
    pub probe: Probe,
    /// Package names for apt, dnf, pacman and zypper, separated by spaces.
    pub names: [&'static str; 4],
}

/// How to see that something is installed.
pub enum Probe {
    /// A program on the PATH.
    Program(&'static str),
    /// A library's development files, by their pkg-config name.
    Library(&'static str),
}

const COMPILER: Need = Need {
    what: "a C compiler",
    probe: Probe::Program("cc"),
    names: ["build-essential", "gcc gcc-c++ make", "base-devel", "gcc gcc-c++ make"],
};
const PKG_CONFIG: Need = Need {
    what: "pkg-config",
    probe: Probe::Program("pkg-config"),
    names: ["pkg-config", "pkgconf-pkg-config", "pkgconf", "pkg-config"],
};
const WEB_VIEW: Need = Need {
    what: "the web view's development files (WebKitGTK 4.1)",
    probe: Probe::Library("webkit2gtk-4.1"),
    names: [
        "libwebkit2gtk-4.1-dev",
        "pkgconfig(webkit2gtk-4.1)",
        "webkit2gtk-4.1",
        "pkgconfig(webkit2gtk-4.1)",
    ],
};
const VIRTUAL_DISPLAY: Need = Need {
    what: "a virtual display for the window's tests",
    probe: Probe::Program("Xvfb"),
    names: ["xvfb", "xorg-x11-server-Xvfb", "xorg-server-xvfb", "xorg-x11-server-Xvfb"],
};
const WEB_DRIVER: Need = Need {
    what: "the web view's driver for the window's tests",
    probe: Probe::Program("WebKitWebDriver"),
    names: [
        "webkit2gtk-driver",
        "/usr/bin/WebKitWebDriver",
        "webkitgtk-6.0",
        "/usr/bin/WebKitWebDriver",
    ],
};

/// For the command line alone.
pub const TERMINAL: &[Need] = &[COMPILER];
/// For the window.
pub const WINDOW: &[Need] = &[COMPILER, PKG_CONFIG, WEB_VIEW];
/// For every test.
pub const TESTS: &[Need] = &[COMPILER, PKG_CONFIG, WEB_VIEW, VIRTUAL_DISPLAY, WEB_DRIVER];

/// Whether nothing of `needs` is missing on this Linux system.
pub fn all_present(needs: &[Need]) -> bool {
    needs.iter().all(present)
}

/// Installs whatever of `needs` is missing, after saying so.
/// Takes milliseconds when nothing is.
pub fn ensure(needs: &[Need]) -> Result<()> {
    match std::env::consts::OS {
        "linux" => ensure_linux(needs),
        "macos" => ensure_macos(),
        "windows" => ensure_windows(),
        _ => Ok(()),
    }
}

fn ensure_linux(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !present(need)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = missing.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    let Some((manager, column)) = manager() else {
        bail!("Missing: {what}. No known package manager here: install them, then run this again.");
    };
    let names: Vec<&str> =
        missing.iter().flat_map(|need| need.names[column].split_whitespace()).collect();
    say(&format!("Missing: {what}. Installing with {manager}: {}", names.join(" ")));
    install(manager, &names)?;
    let still: Vec<&str> = missing.iter().filter(|n| !present(n)).map(|n| n.what).collect();
    if !still.is_empty() {
        bail!("Still missing after the installation: {}.", still.join(", "));
    }
    Ok(())
}

fn present(need: &Need) -> bool {
    match need.probe {
        Probe::Program(name) => has(name),
        Probe::Library(name) => {
            has("pkg-config")
                && output(&mut command("pkg-config", &["--modversion", name])).is_some()
        }
    }
}

fn manager() -> Option<(&'static str, usize)> {
    let known = [("apt-get", 0), ("dnf", 1), ("pacman", 2), ("zypper", 3)];
    known.into_iter().find(|(program, _)| has(program))
}

fn install(manager: &str, names: &[&str]) -> Result<()> {
    let before: &[&str] = match manager {
        "apt-get" => {
            as_root("apt-get", &["update", "-q"])?;
            &["install", "-y", "-q", "--no-install-recommends"]
        }
        "dnf" => &["install", "-y"],
        "pacman" => &["-S", "--needed", "--noconfirm"],
        _ => &["-n", "install"],
    };
    as_root(manager, &[before, names].concat())
}

/// Runs as root: directly when we are, through sudo (announced) when we are not.
fn as_root(program: &str, args: &[&str]) -> Result<()> {
    let is_root = output(&mut command("id", &["-u"])).is_some_and(|id| id.trim() == "0");
    let mut step = if is_root {
        command(program, args)
    } else {
        say(&format!("sudo {program} {}", args.join(" ")));
        command("sudo", &[&["DEBIAN_FRONTEND=noninteractive", program], args].concat())
    };
    run(step.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Apple's own web view is always there; only its command line tools may be missing.
fn ensure_macos() -> Result<()> {
    if output(&mut command("xcode-select", &["-p"])).is_some() {
        return Ok(());
    }
    say("Installing the Xcode command line tools (a window asks you to agree)");
    run(&mut command("xcode-select", &["--install"]))?;
    bail!("Run this again once the Xcode command line tools are installed.");
}

/// Cargo ran, so a linker is there; Windows 11 has the web view, older ones may not.
fn ensure_windows() -> Result<()> {
    let folder = "Microsoft\\EdgeWebView\\Application";
    let roots = ["ProgramFiles(x86)", "ProgramFiles", "LOCALAPPDATA"];
    let found = roots
        .iter()
        .filter_map(std::env::var_os)
        .any(|root| std::path::Path::new(&root).join(folder).is_dir());
    if found || !has("winget") {
        return Ok(());
    }
    let id = "Microsoft.EdgeWebView2Runtime";
    say(&format!("Installing the web view with winget: {id}"));
    // winget ends with its own codes for "already there": what counts is whether the window opens.
    if let Err(error) = run(&mut command("winget", &["install", "--exact", "--id", id])) {
        say(&format!("{error:#}; going on"));
    }
    Ok(())
}
