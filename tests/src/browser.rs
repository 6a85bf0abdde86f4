//! A real browser without a window: Chromium, by the WebDriver protocol. What finds or installs it is the task runner.

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

/// What enables the stories where there is no browser.
const ENABLE: &str = "cargo xtask browser";

/// Nothing of it talks to anybody, and nothing of it is kept.
const QUIET: [&str; 9] = [
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

/// A browser. Dropping ends it.
pub struct Browser {
    client: Client,
    driver: Child,
}

/// How somebody looks at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// CSS pixels.
    pub width: u32,
    /// CSS pixels.
    pub height: u32,
    /// A dark theme is wanted.
    pub dark: bool,
    /// On paper.
    pub print: bool,
}

impl Browser {
    /// Starts one.
    ///
    /// # Errors
    /// There is none, or it does not start; with what helps.
    pub async fn start() -> Result<Browser> {
        let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/browser");
        let program = |name: &str| {
            std::fs::read_to_string(found.join(name))
                .with_context(|| format!("no {name}; this finds or installs it: {ENABLE}"))
        };
        let (chromium, chromedriver) = (program("chromium")?, program("chromedriver")?);
        let mut driver = Command::new(&chromedriver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let port = port(&mut driver).await?;
        let arguments: Vec<Value> = QUIET.iter().map(|&argument| argument.into()).collect();
        let capabilities = json!({"browserName": "chrome", "goog:chromeOptions": {"binary": chromium, "args": arguments}});
        let capabilities = serde_json::from_value(capabilities)?;
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await?;
        Ok(Browser { client, driver })
    }

    /// Opens a file as this reader sees it.
    pub async fn open(&self, page: &Path, reader: Reader) -> Result<()> {
        let Reader { width, height, dark, print } = reader;
        self.chromium("Emulation.setDeviceMetricsOverride", json!({"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 600})).await?;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.chromium(
            "Emulation.setEmulatedMedia",
            json!({"media": if print { "print" } else { "screen" }, "features": features}),
        )
        .await?;
        self.client.goto(&format!("file://{}", page.canonicalize()?.display())).await?;
        Ok(())
    }

    /// What an expression of JavaScript says of the open page.
    pub async fn ask(&self, expression: &str) -> Result<Value> {
        Ok(self.client.execute(&format!("return ({expression})"), vec![]).await?)
    }

    /// A picture of the page as PNG.
    pub async fn picture(&self) -> Result<Vec<u8>> {
        Ok(self.client.screenshot().await?)
    }

    /// The page on paper, as PDF.
    pub async fn pdf(&self) -> Result<Vec<u8>> {
        Ok(self.client.print(fantoccini::wd::PrintConfiguration::default()).await?)
    }

    /// Ends it.
    pub async fn close(mut self) -> Result<()> {
        self.client.close().await?;
        self.driver.kill().await?;
        Ok(())
    }

    async fn chromium(&self, command: &str, parameters: Value) -> Result<()> {
        self.client.issue_cmd(Devtools(json!({"cmd": command, "params": parameters}))).await?;
        Ok(())
    }
}

/// A command of Chromium's own, which WebDriver has no word for.
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

/// The port that it took; it says so once it listens.
async fn port(driver: &mut Child) -> Result<u16> {
    const SAYS: &str = "started successfully on port ";
    let mut lines =
        BufReader::new(driver.stdout.take().context("stdout was asked to be a pipe")?).lines();
    let port = async {
        while let Some(line) = lines.next_line().await? {
            if let Some((_, port)) = line.split_once(SAYS) {
                return Ok(port.trim_end_matches('.').parse()?);
            }
        }
        bail!("chromedriver ended without a port")
    };
    tokio::time::timeout(Duration::from_secs(60), port)
        .await
        .context("chromedriver says no port")?
}
