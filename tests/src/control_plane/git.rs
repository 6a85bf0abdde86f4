//! A Git server on loopback: a bare repository behind `git http-backend`, which a real
//! source-controller can clone.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, ensure};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

/// A served repository with one branch, `main`. Dropping it ends the server.
pub struct GitServer {
    folder: PathBuf,
    url: String,
    server: JoinHandle<()>,
}

impl GitServer {
    /// Creates an empty repository in a directory and serves it.
    pub async fn start(folder: &Path) -> Result<GitServer> {
        let folder = folder.join("git");
        std::fs::create_dir_all(&folder)?;
        git(&folder, &["init", "--quiet", "--bare", "--initial-branch=main", "ops.git"]).await?;
        git(&folder, &["init", "--quiet", "--initial-branch=main", "work"]).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/ops.git", listener.local_addr()?);
        let server = tokio::spawn(serve(listener, folder.clone()));
        Ok(GitServer { folder, url, server })
    }

    /// Returns the URL to clone from.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Commits files and returns the id of the commit. Each file is a path and its new content; a
    /// file without content is deleted.
    pub async fn commit(
        &self,
        message: &str,
        files: &[(String, Option<String>)],
    ) -> Result<String> {
        let work = self.folder.join("work");
        for (path, content) in files {
            let file = work.join(path);
            match content {
                Some(content) => {
                    std::fs::create_dir_all(
                        file.parent().context("the file has no parent directory")?,
                    )?;
                    std::fs::write(file, content)?;
                }
                None => std::fs::remove_file(file)?,
            }
        }
        git(&work, &["add", "--all"]).await?;
        git(&work, &["commit", "--quiet", "--message", message]).await?;
        git(&work, &["push", "--quiet", "../ops.git", "main"]).await?;
        Ok(git(&work, &["rev-parse", "HEAD"]).await?.trim().to_owned())
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Runs Git with a fixed identity, independent of the configuration of the machine.
async fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@example.org",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", folder)
        .stdin(Stdio::null())
        .output()
        .await
        .context("failed to start git")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {} failed: {}", arguments.join(" "), stderr.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn serve(listener: TcpListener, root: PathBuf) {
    while let Ok((stream, _)) = listener.accept().await {
        let root = root.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let root = root.clone();
                async move { Ok::<_, std::convert::Infallible>(respond(request, &root).await) }
            });
            // A connection that the client closes early is not an error.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(request: Request<Incoming>, root: &Path) -> Response<Full<Bytes>> {
    run_backend(request, root).await.unwrap_or_else(|error| {
        let mut response = Response::new(Full::new(Bytes::from(format!("{error:#}"))));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// Passes a request to `git http-backend` by CGI (RFC 3875).
async fn run_backend(request: Request<Incoming>, root: &Path) -> Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let header = |name: &str| {
        head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", root)
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin is not a pipe")?;
    let write_body = async move {
        // A backend that reads no body closes its end early.
        let _ = stdin.write_all(&body).await;
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), write_body);
    response(&output?.stdout)
}

/// Parses the output of a CGI program: headers, an empty line, the body.
fn response(output: &[u8]) -> Result<Response<Full<Bytes>>> {
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .context("git http-backend sent no headers")?;
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(&output[end + 4..])));
    for line in std::str::from_utf8(&output[..end])?.lines() {
        let (name, value) =
            line.split_once(": ").ok_or_else(|| anyhow!("{line:?} is not a header"))?;
        if name.eq_ignore_ascii_case("status") {
            *response.status_mut() =
                StatusCode::from_bytes(value.get(..3).unwrap_or_default().as_bytes())?;
        } else {
            response
                .headers_mut()
                .insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
    }
    Ok(response)
}
