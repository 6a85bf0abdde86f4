//! Tests the HTML report in a real browser: on a phone, in dark mode, in print, and with hostile
//! text from a cluster.
//!
//! `SALVE_PICTURES=DIR` keeps the screenshots.

use anyhow::{Context, Result, ensure};
use salve_core::report::{EffectOutcome, Report, ReportBuilder, Verdict};
use salve_run::RunFile;
use salve_tests::browser::{Browser, Viewport};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const PHONE: Viewport = Viewport { width: 360, height: 740, dark: false, print: false };
const DESK: Viewport = Viewport { width: 1280, height: 900, dark: false, print: false };
/// A4 at 96 pixels per inch, without margins.
const PAPER: Viewport = Viewport { width: 718, height: 1047, dark: false, print: true };

/// Evaluates to tag and text of the elements that overflow the page to the right.
const OVERFLOWING: &str = "[...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map(e => e.tagName + ' ' + e.textContent.slice(0, 60))";

/// Evaluates to the text that is hard to read: its contrast with the page is less than 4.5 to 1
/// (WCAG 2.2, 1.4.3), or it is smaller than 12 px.
const ILLEGIBLE: &str = "(() => {
    const page = document.createElement('i');
    page.style.background = 'Canvas';
    document.body.append(page);
    const luminance = color => {
        const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map(c => c / 255)
            .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const canvas = luminance(getComputedStyle(page).backgroundColor);
    page.remove();
    const texts = [...document.querySelectorAll('body *')]
        .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
    const illegible = texts.filter(e => {
        const style = getComputedStyle(e), text = luminance(style.color);
        const contrast = (Math.max(text, canvas) + 0.05) / (Math.min(text, canvas) + 0.05);
        return contrast < 4.5 || parseFloat(style.fontSize) < 12;
    });
    return {
        texts: texts.length,
        dark: canvas < 0.2,
        illegible: illegible.map(e => e.tagName + ' ' + e.textContent.slice(0, 60)),
    };
})()";

/// Returns the report of the demo, whose run is killed and recovered.
fn demo_report(folder: &Path) -> Result<Report> {
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
        .map(|file| {
            let builder = ReportBuilder::of(&RunFile::read(file)?);
            builder.map(ReportBuilder::into_report).context("the run file has no header")
        })
        .collect::<Result<Vec<_>>>()?;
    reports
        .into_iter()
        .find(|report| report.verdict == Some(Verdict::Fixed))
        .context("the demo fixed no incident")
}

fn write_page(folder: &Path, report: &Report) -> Result<PathBuf> {
    let path = folder.join("report.html");
    std::fs::write(&path, salve::output::html(report))?;
    Ok(path)
}

async fn keep_screenshot(browser: &Browser, name: &str) -> Result<()> {
    if let Some(folder) = std::env::var_os("SALVE_PICTURES") {
        std::fs::write(Path::new(&folder).join(name), browser.screenshot().await?)?;
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(not(browser), ignore = "needs Chromium: cargo xtask browser")]
async fn a_report_is_legible_on_a_phone_in_dark_mode_and_in_print() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let report = demo_report(folder.path())?;
    let page = write_page(folder.path(), &report)?;
    let browser = Browser::start().await?;
    for (name, viewport) in [
        ("phone.png", PHONE),
        ("phone-dark.png", Viewport { dark: true, ..PHONE }),
        ("desk.png", DESK),
        ("desk-dark.png", Viewport { dark: true, ..DESK }),
        ("paper.png", PAPER),
    ] {
        browser.open(&page, viewport).await?;
        keep_screenshot(&browser, name).await?;
        assert_eq!(browser.evaluate(OVERFLOWING).await?, json!([]), "{name}");
        let text = browser.evaluate(ILLEGIBLE).await?;
        assert_eq!(text["illegible"], json!([]), "{name}");
        assert!(text["texts"].as_u64() > Some(100), "{name}: {text}");
        assert_eq!(text["dark"], viewport.dark, "{name}");
    }
    let pdf = browser.pdf().await?;
    assert!(pdf.starts_with(b"%PDF-") && pdf.len() > 10_000, "{} bytes", pdf.len());
    browser.close().await
}

#[tokio::test]
#[cfg_attr(not(browser), ignore = "needs Chromium: cargo xtask browser")]
async fn a_report_is_complete_and_loads_no_resources() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let report = demo_report(folder.path())?;
    let page = write_page(folder.path(), &report)?;
    let browser = Browser::start().await?;
    browser.open(&page, DESK).await?;
    let text = browser.evaluate("document.body.innerText").await?;
    let text = text.as_str().context("the page has no text")?;
    let commands = report.effects.iter().flat_map(|effect| &effect.commands);
    let findings = report
        .evidence
        .iter()
        .chain(&report.remaining)
        .chain(&report.prevention)
        .map(|finding| &finding.text);
    let steps = report.steps.iter().map(|step| &step.title);
    let missing: Vec<&String> = commands
        .chain(findings)
        .chain(steps)
        .chain([&report.summary])
        .filter(|expected| !text.contains(expected.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}\n{text}");
    assert!(
        report.effects.len() > 5
            && !report.evidence.is_empty()
            && report.figures.iter().all(|figure| text.contains(&figure.name))
    );
    let resources = browser
        .evaluate(
            "[performance.getEntriesByType('resource').length,
            document.querySelectorAll('[src],[href],script,iframe,form').length]",
        )
        .await?;
    assert_eq!(resources, json!([0, 0]), "the page must be self-contained");
    browser.close().await
}

#[tokio::test]
#[cfg_attr(not(browser), ignore = "needs Chromium: cargo xtask browser")]
async fn hostile_text_from_a_cluster_is_escaped_and_does_not_overflow() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut report = demo_report(folder.path())?;
    let hostile = concat!(
        "<script>document.title='owned'</script>",
        "<img src=x onerror=\"document.title='owned'\">",
        "<style>body{display:none}</style>",
    );
    let long = "x".repeat(253);
    report.summary = format!("{hostile} {long}");
    report.cluster.context = format!("{hostile}{long}");
    for effect in &mut report.effects {
        effect.targets.push(format!("replicationsource/{long}/{long}"));
        effect.commands.push(format!("kubectl delete {long} {hostile}"));
        effect.outcome = EffectOutcome::Failed(format!("{hostile} {long}"));
    }
    for finding in report.evidence.iter_mut().chain(&mut report.remaining) {
        finding.details.push(format!("{hostile}{long}"));
    }
    let page = write_page(folder.path(), &report)?;
    let browser = Browser::start().await?;
    browser.open(&page, PHONE).await?;
    keep_screenshot(&browser, "hostile.png").await?;
    assert_eq!(browser.evaluate(OVERFLOWING).await?, json!([]));
    let found = browser
        .evaluate(
            "[document.title, document.querySelectorAll('script,img,body style').length,
            getComputedStyle(document.body).display]",
        )
        .await?;
    assert_eq!(found, json!([format!("{} {}", report.guest.name, report.run), 0, "block"]));
    let text: Value = browser.evaluate("document.querySelector('h1').innerText").await?;
    assert!(text.as_str().is_some_and(|text| text.contains(hostile)), "{text}");
    browser.close().await
}
