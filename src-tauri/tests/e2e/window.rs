//! A running window with a WebDriver session on it, and the virtual display it is shown on.
//! Knows nothing of what is asked.
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use fantoccini::actions::{InputSource, MouseActions, PointerAction};
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, MutexGuard};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{AtomEnum, ClientMessageEvent, ConnectionExt, EventMask};

/// How often and how long a condition is waited for.
const STEP: Duration = Duration::from_millis(50);
const N_STEPS: usize = 1200;

pub struct Window {
    page: Client,
    driver: Child,
    /// One window at a time: a pointer over two of them would leave one to enter the other.
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::const_new(());

/// One virtual display for all tests of this run; `None` where it cannot be had.
fn display() -> Option<&'static str> {
    static DISPLAY: OnceLock<Option<String>> = OnceLock::new();
    let start = || {
        if let Ok(name) = std::env::var("DISPLAY") {
            return Some(name);
        }
        let name = format!(":{}", 200 + std::process::id() % 700);
        // It ends with this process: the shell waits for our end of the pipe to close.
        let script = format!("Xvfb {name} -screen 0 1280x800x24 -nolisten tcp & read x; kill $!");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).stdin(Stdio::piped());
        let child = shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        std::mem::forget(child);
        let socket = PathBuf::from(format!("/tmp/.X11-unix/X{}", &name[1..]));
        for _ in 0..100 {
            if socket.exists() {
                return Some(name);
            }
            std::thread::sleep(STEP);
        }
        None
    };
    DISPLAY.get_or_init(start).as_deref()
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a local port");
    listener.local_addr().expect("a bound port").port()
}

impl Window {
    /// Starts the program with these arguments; `None`, said aloud, where it cannot be driven.
    pub async fn open(args: &[&str]) -> Option<Window> {
        let Some(display) = display() else {
            eprintln!("skipped: there is no display, and Xvfb could not be started");
            return None;
        };
        let alone = ALONE.lock().await;
        let port = free_port();
        let mut command = Command::new("WebKitWebDriver");
        command.arg(format!("--port={port}")).env("TAURI_WEBVIEW_AUTOMATION", "true");
        // The program turns this renderer off for the sake of some graphics drivers; without it
        // WebKitWebDriver (2.50) never returns from taking a photograph.
        command.env("WEBKIT_DISABLE_DMABUF_RENDERER", "0");
        command.env("DISPLAY", display).stdout(Stdio::null());
        // What the tests choose is not what the user chose.
        let data = format!("{}/data-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        command.env("XDG_DATA_HOME", data);
        let Ok(driver) = command.spawn() else {
            eprintln!("skipped: WebKitWebDriver is not installed (package webkit2gtk-driver)");
            return None;
        };
        for _ in 0..N_STEPS {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                break;
            }
            tokio::time::sleep(STEP).await;
        }
        let binary = env!("CARGO_BIN_EXE_sightline-app");
        let args: Vec<&str> = stand_in().iter().chain(args).copied().collect();
        let options = json!({ "binary": binary, "args": args });
        let capabilities = Map::from_iter([("webkitgtk:browserOptions".to_owned(), options)]);
        let http = hyper_util::client::legacy::connect::HttpConnector::new();
        let mut builder = ClientBuilder::new(http);
        let address = format!("http://127.0.0.1:{port}");
        let page = builder.capabilities(capabilities).connect(&address).await.expect("a session");
        let window = Window { page, driver, _alone: alone };
        window.until("document.querySelector('main') !== null").await;
        Some(window)
    }

    /// The value of an expression in the page.
    pub async fn value(&self, expression: &str) -> Value {
        let script = format!("return {expression}");
        self.page.execute(&script, vec![]).await.unwrap_or(Value::Null)
    }

    /// Waits until an expression is true; fails with a photograph and the page's text.
    pub async fn until(&self, expression: &str) {
        for _ in 0..N_STEPS {
            if self.value(expression).await == true {
                return;
            }
            tokio::time::sleep(STEP).await;
        }
        self.keep("failed").await;
        let said = self.value("document.body.innerText").await;
        panic!("never came true: {expression}; the page: {said}");
    }

    /// True once the model is loaded; false, said aloud, where none could be.
    pub async fn model_is_ready(&self) -> bool {
        let settled = "document.querySelector('[data-testid=model].busy') === null";
        self.until(settled).await;
        let ready = "document.querySelector('[data-testid=model].ready') !== null";
        let ready = self.value(ready).await;
        if ready != true {
            let why = self.value("document.querySelector('[data-testid=error]')?.innerText").await;
            eprintln!("skipped: no model could be loaded: {why}");
        }
        ready == true
    }

    /// Writes a question as a user does, key by key, and sends it.
    pub async fn ask(&self, question: &str) {
        let field = Locator::Css("textarea");
        let field = self.page.find(field).await.expect("the composer");
        field.send_keys(question).await.expect("keys");
        let button = Locator::Css("form button[type=submit]");
        self.page.find(button).await.expect("a button").click().await.expect("a click");
    }

    /// Moves the pointer onto an element.
    pub async fn point_at(&self, css: &str) {
        let element = self.page.find(Locator::Css(css)).await.expect("the element");
        let there = PointerAction::MoveToElement { element, duration: None, x: 0.0, y: 0.0 };
        let mouse = MouseActions::new("mouse".into()).then(there);
        self.page.perform_actions(mouse).await.expect("a pointer");
    }

    /// Presses the pointer on one place of the picture and lets it go at another, both as parts
    /// of its width and height.
    pub async fn drag_on_picture(&self, from: (f32, f32), to: (f32, f32)) {
        let script = "const surface = document.querySelector('[data-testid=surface]'); \
            const frame = surface.getBoundingClientRect(); \
            const [x0, y0, x1, y1] = arguments; \
            const point = (type, x, y) => surface.dispatchEvent(new PointerEvent(type, { \
                bubbles: true, pointerId: 1, \
                clientX: frame.left + x * frame.width, clientY: frame.top + y * frame.height })); \
            point('pointerdown', x0, y0); point('pointermove', x1, y1); point('pointerup', x1, y1)";
        let places = [from.0, from.1, to.0, to.1].map(|part| json!(part));
        self.page.execute(script, places.to_vec()).await.expect("a drag");
    }

    /// Presses the first button with this text.
    pub async fn press(&self, text: &str) {
        let script = "const button = [...document.querySelectorAll('button')] \
            .find((one) => one.textContent.includes(arguments[0])); button.click()";
        self.page.execute(script, vec![json!(text)]).await.expect("such a button");
    }

    /// Scrolls an element into sight.
    pub async fn look_at(&self, css: &str) {
        let script = format!("document.querySelector('{css}').scrollIntoView({{block: 'center'}})");
        self.value(&script).await;
    }

    /// Pastes a file.
    pub async fn paste(&self, name: &str, bytes: &[u8]) {
        let script = "const data = new DataTransfer(); \
            const [name, bytes] = arguments; \
            data.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'})); \
            window.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))";
        self.page.execute(script, vec![json!(name), json!(bytes)]).await.expect("a paste");
    }

    /// Whether a promise is refused.
    pub async fn refuses(&self, promise: &str) -> bool {
        let script = format!(
            "const done = arguments[arguments.length - 1]; \
             Promise.resolve().then(() => {promise}).then(() => done(false), () => done(true))"
        );
        self.page.execute_async(&script, vec![]).await.is_ok_and(|refused| refused == true)
    }

    /// Keeps a photograph of the page.
    pub async fn keep(&self, name: &str) {
        let folder = std::env::var_os("SIGHTLINE_ARTEFACTS").map(PathBuf::from);
        let folder =
            folder.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../e2e"));
        // What was changed last has to reach the screen first.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let Ok(png) = self.page.screenshot().await else { return };
        let path = folder.join(format!("{name}.png"));
        match std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, png)) {
            Ok(()) => eprintln!("photograph: {}", path.display()),
            Err(error) => eprintln!("{}: {error}", path.display()),
        }
    }

    pub async fn close(self) {
        self.page.clone().close().await.ok();
    }
}

/// The process of the program that has this among its arguments.
pub fn process(argument: &str) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut numbers = processes.filter_map(|p| p.file_name().to_str()?.parse().ok());
    numbers.find(|number| {
        let line = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains("sightline-app") && line.contains(argument)
    })
}

/// Asks the windows of a process to close, as the button in their title bar does (ICCCM 4.2.8.1).
pub fn press_close(process: u32) -> Result<(), Box<dyn std::error::Error>> {
    let (server, screen) = x11rb::connect(display())?;
    let number = |name: &str| -> Result<u32, Box<dyn std::error::Error>> {
        Ok(server.intern_atom(false, name.as_bytes())?.reply()?.atom)
    };
    let (protocols, delete) = (number("WM_PROTOCOLS")?, number("WM_DELETE_WINDOW")?);
    let owner = number("_NET_WM_PID")?;
    let property = |window, name| -> Result<Vec<u32>, Box<dyn std::error::Error>> {
        let reply = server.get_property(false, window, name, AtomEnum::ANY, 0, 32)?.reply()?;
        Ok(reply.value32().into_iter().flatten().collect())
    };
    let windows = server.query_tree(server.setup().roots[screen].root)?.reply()?.children;
    for window in windows {
        if property(window, owner)? == [process] && property(window, protocols)?.contains(&delete) {
            let data = [delete, x11rb::CURRENT_TIME, 0, 0, 0];
            let message = ClientMessageEvent::new(32, window, protocols, data);
            server.send_event(false, window, EventMask::NO_EVENT, message)?.check()?;
        }
    }
    Ok(())
}

/// A tiny random checkpoint where the checkout has no trained weights: it answers nonsense, and the
/// window shows nonsense as well as sense.
fn stand_in() -> &'static [&'static str] {
    const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/nano/model.safetensors");
    const TINY: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity/fixtures/smolvlm-llama-square");
    let elsewhere = std::env::var_os("SIGHTLINE_MODELS").is_some();
    if elsewhere || std::path::Path::new(SHIPPED).exists() { &[] } else { &["--model", TINY] }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SIGTERM, not SIGKILL: the driver must take the window with it.
        Command::new("kill").arg(self.driver.id().to_string()).status().ok();
        self.driver.wait().ok();
    }
}

/// A drawn picture in a file of this name; a committed scene's bytes where there are none better.
pub fn picture(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pictures");
    std::fs::create_dir_all(&folder).expect("a folder for pictures");
    let path = folder.join(name);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/nano/example.png");
    if std::fs::copy(example, &path).is_err() {
        let drawn = image::RgbImage::from_fn(192, 192, |x, y| {
            let inside = (40..100).contains(&x) && (90..150).contains(&y);
            image::Rgb(if inside { [200, 55, 45] } else { [190, 224, 242] })
        });
        drawn.save(&path).expect("a picture");
    }
    path.to_str().expect("a readable path").to_owned()
}
