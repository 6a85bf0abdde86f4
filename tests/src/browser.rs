//! Drives a real headless Chromium by the WebDriver protocol. `cargo xtask browser` finds or
//! installs it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use url::Url;

/// The command that enables the browser tests.
const ENABLE: &str = "cargo xtask browser";

/// Arguments that keep the browser off the network.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser session. Dropping it kills the browser.
pub struct Browser {
    client: Client,
    driver: Child,
}

/// The media settings under which a page is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Viewport {
    /// CSS pixels.
    pub width: u32,
    /// CSS pixels.
    pub height: u32,
    /// Emulates `prefers-color-scheme: dark`.
    pub dark: bool,
    /// Emulates the media type `print`.
    pub print: bool,
}

impl Browser {
    /// Starts a browser.
    ///
    /// # Errors
    /// The browser is not installed or does not start.
    pub async fn start() -> Result<Browser> {
        let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/browser");
        let program = |name: &str| {
            std::fs::read_to_string(found.join(name))
                .with_context(|| format!("{name} is not installed; run `{ENABLE}`"))
        };
        let (chromium, chromedriver) = (program("chromium")?, program("chromedriver")?);
        let mut driver = Command::new(&chromedriver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let port = port(&mut driver).await?;
        let arguments: Vec<Value> = ARGUMENTS.iter().map(|&argument| argument.into()).collect();
        let capabilities = serde_json::from_value(json!({
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
        }))?;
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await?;
        Ok(Browser { client, driver })
    }

    /// Opens a file with these media settings.
    pub async fn open(&self, page: &Path, viewport: Viewport) -> Result<()> {
        let Viewport { width, height, dark, print } = viewport;
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 600,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await?;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        let media = if print { "print" } else { "screen" };
        self.devtools("Emulation.setEmulatedMedia", json!({"media": media, "features": features}))
            .await?;
        self.client.goto(&format!("file://{}", page.canonicalize()?.display())).await?;
        Ok(())
    }

    /// Evaluates a JavaScript expression in the open page.
    pub async fn evaluate(&self, expression: &str) -> Result<Value> {
        Ok(self.client.execute(&format!("return ({expression})"), vec![]).await?)
    }

    /// Returns a PNG image of the visible part of the page.
    pub async fn screenshot(&self) -> Result<Vec<u8>> {
        Ok(self.client.screenshot().await?)
    }

    /// Prints the page to PDF.
    pub async fn pdf(&self) -> Result<Vec<u8>> {
        Ok(self.client.print(fantoccini::wd::PrintConfiguration::default()).await?)
    }

    /// Ends the session and the driver.
    pub async fn close(mut self) -> Result<()> {
        self.client.close().await?;
        self.driver.kill().await?;
        Ok(())
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Result<()> {
        self.client.issue_cmd(Devtools(json!({"cmd": command, "params": parameters}))).await?;
        Ok(())
    }
}

/// A command of the Chrome DevTools protocol. WebDriver has no equivalent.
#[derive(Debug)]
struct Devtools(Value);

impl WebDriverCompatibleCommand for Devtools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }
    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.0.to_string()))
    }
}

/// Reads the port from the line that chromedriver prints once it listens.
async fn port(driver: &mut Child) -> Result<u16> {
    const STARTED: &str = "started successfully on port ";
    let mut lines = BufReader::new(driver.stdout.take().context("stdout is not a pipe")?).lines();
    let port = async {
        while let Some(line) = lines.next_line().await? {
            if let Some((_, port)) = line.split_once(STARTED) {
                return Ok(port.trim_end_matches('.').parse()?);
            }
        }
        bail!("chromedriver exited without printing its port")
    };
    tokio::time::timeout(Duration::from_secs(60), port)
        .await
        .context("chromedriver did not print its port")?
}
