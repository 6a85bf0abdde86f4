//! The HTML report in a real browser: on a phone, in the dark, on paper, and with text that a cluster made up.
//!
//! `SALVE_PICTURES=DIR` keeps what the browser saw.

use anyhow::{Context, Result, ensure};
use salve_core::report::Report;
use salve_run::RunFile;
use salve_tests::browser::{Browser, Reader};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const PHONE: Reader = Reader { width: 360, height: 740, dark: false, print: false };
const DESK: Reader = Reader { width: 1280, height: 900, dark: false, print: false };
/// A4 at 96 pixels an inch, less the margins.
const PAPER: Reader = Reader { width: 718, height: 1047, dark: false, print: true };

/// What sticks out of the page to the right: its tag and its text.
const WIDER: &str = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.tagName + ' ' + e.textContent.slice(0, 60))";

/// Text that is hard to read: its contrast with the page is less than 4.5 to 1 (WCAG 2.2, 1.4.3), or it is smaller than 12 px.
const FAINT: &str = "(() => {
    const page = document.createElement('i');
    page.style.background = 'Canvas';
    document.body.append(page);
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const canvas = light(getComputedStyle(page).backgroundColor);
    page.remove();
    const texts = [...document.querySelectorAll('body *')].filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
    const faint = texts.filter(e => {
        const style = getComputedStyle(e), text = light(style.color);
        const contrast = (Math.max(text, canvas) + 0.05) / (Math.min(text, canvas) + 0.05);
        return contrast < 4.5 || parseFloat(style.fontSize) < 12;
    });
    return {texts: texts.length, dark: canvas < 0.2, faint: faint.map(e => e.tagName + ' ' + e.textContent.slice(0, 60))};
})()";

/// The report of the demo, whose process was killed and whose run was taken up.
fn told(folder: &Path) -> Result<Report> {
    let program = salve_tests::salve::program()?;
    let output = Command::new(program)
        .arg("demo")
        .arg("--runs")
        .arg(folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all = salve::runs::all(folder).map_err(|e| anyhow::anyhow!("{e}"))?;
    let reports = all
        .iter()
        .map(|file| Report::of(&RunFile::read(file)?).context("it has a header"))
        .collect::<Result<Vec<_>>>()?;
    reports.into_iter().find(|report| report.verdict == "fixed").context("the demo came to an end")
}

fn page(folder: &Path, report: &Report) -> Result<PathBuf> {
    let path = folder.join("report.html");
    std::fs::write(&path, salve::output::page(report))?;
    Ok(path)
}

async fn keep(browser: &Browser, name: &str) -> Result<()> {
    if let Some(folder) = std::env::var_os("SALVE_PICTURES") {
        std::fs::write(Path::new(&folder).join(name), browser.picture().await?)?;
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(not(browser), ignore = "needs Chromium: cargo xtask browser")]
async fn a_report_can_be_read_on_a_phone_in_the_dark_and_on_paper() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let report = told(folder.path())?;
    let page = page(folder.path(), &report)?;
    let browser = Browser::start().await?;
    for (name, reader) in [
        ("phone.png", PHONE),
        ("phone-dark.png", Reader { dark: true, ..PHONE }),
        ("desk.png", DESK),
        ("desk-dark.png", Reader { dark: true, ..DESK }),
        ("paper.png", PAPER),
    ] {
        browser.open(&page, reader).await?;
        keep(&browser, name).await?;
        assert_eq!(browser.ask(WIDER).await?, json!([]), "{name}");
        let faint = browser.ask(FAINT).await?;
        assert_eq!(faint["faint"], json!([]), "{name}");
        assert!(faint["texts"].as_u64() > Some(100), "{name}: {faint}");
        assert_eq!(faint["dark"], reader.dark, "{name}");
    }
    let pdf = browser.pdf().await?;
    assert!(pdf.starts_with(b"%PDF-") && pdf.len() > 10_000, "{} bytes", pdf.len());
    browser.close().await
}

#[tokio::test]
#[cfg_attr(not(browser), ignore = "needs Chromium: cargo xtask browser")]
async fn a_report_tells_everything_and_asks_nobody_for_anything() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let report = told(folder.path())?;
    let page = page(folder.path(), &report)?;
    let browser = Browser::start().await?;
    browser.open(&page, DESK).await?;
    let text = browser.ask("document.body.innerText").await?;
    let text = text.as_str().context("a page has a text")?;
    let commands = report.effects.iter().flat_map(|told| &told.commands);
    let findings = report
        .evidence
        .iter()
        .chain(&report.left)
        .chain(&report.prevention)
        .map(|finding| &finding.text);
    let steps = report.steps.iter().map(|step| &step.title);
    let missing: Vec<&String> = commands
        .chain(findings)
        .chain(steps)
        .chain([&report.summary])
        .filter(|told| !text.contains(told.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}\n{text}");
    assert!(
        report.effects.len() > 5
            && !report.evidence.is_empty()
            && report.figures.iter().all(|figure| text.contains(&figure.name))
    );
    let asks = browser.ask("[performance.getEntriesByType('resource').length, document.querySelectorAll('[src],[href],script,iframe,form').length]").await?;
    assert_eq!(asks, json!([0, 0]), "one file, which asks nobody");
    browser.close().await
}

#[tokio::test]
#[cfg_attr(not(browser), ignore = "needs Chromium: cargo xtask browser")]
async fn what_a_cluster_makes_up_stays_text_and_stays_on_the_page() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut report = told(folder.path())?;
    let hostile = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><style>body{display:none}</style>";
    let long = "x".repeat(253);
    report.summary = format!("{hostile} {long}");
    report.cluster.context = format!("{hostile}{long}");
    for told in &mut report.effects {
        told.targets.push(format!("replicationsource/{long}/{long}"));
        told.commands.push(format!("kubectl delete {long} {hostile}"));
        told.outcome = format!("{hostile} {long}");
    }
    for finding in report.evidence.iter_mut().chain(&mut report.left) {
        finding.details.push(format!("{hostile}{long}"));
    }
    let page = page(folder.path(), &report)?;
    let browser = Browser::start().await?;
    browser.open(&page, PHONE).await?;
    keep(&browser, "hostile.png").await?;
    assert_eq!(browser.ask(WIDER).await?, json!([]));
    let found = browser.ask("[document.title, document.querySelectorAll('script,img,body style').length, getComputedStyle(document.body).display]").await?;
    assert_eq!(found, json!([format!("{} {}", report.guest.name, report.run), 0, "block"]));
    let text: Value = browser.ask("document.querySelector('h1').innerText").await?;
    assert!(text.as_str().is_some_and(|text| text.contains(hostile)), "{text}");
    browser.close().await
}
