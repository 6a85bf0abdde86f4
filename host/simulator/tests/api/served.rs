//! The cluster on a socket: plain HTTP, and virtual time that follows the wall clock.

use std::time::{Duration, Instant};

use salve_simulator::{Incident, Simulator, kubeconfig, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_served_cluster_responds_over_http_and_its_time_advances() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.local_addr().expect("address");
    assert!(kubeconfig(address).contains(&format!("http://{address}")));
    let cluster = Simulator::new(Incident::Healthy);
    let start = cluster.clock().now();
    let server = tokio::spawn(serve(cluster.clone(), listener, 10_000.0));

    let mut stream = TcpStream::connect(address).await.expect("connection");
    let request = "GET /api/v1/namespaces HTTP/1.1\r\nhost: simulated\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("response");
    assert!(
        response.starts_with("HTTP/1.1 200 OK") && response.contains("home-automation"),
        "{response}"
    );
    let dates: Vec<&str> =
        response.lines().filter(|line| line.to_lowercase().starts_with("date:")).collect();
    assert!(
        dates.len() == 1 && dates[0].contains("Aug 2026"),
        "the Date header is the virtual time: {dates:?}"
    );

    let deadline = Instant::now() + Duration::from_secs(10);
    while cluster.clock().now().duration_since(start).as_secs() < 600 {
        assert!(Instant::now() < deadline, "virtual time does not advance");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.abort();
    assert!(server.await.is_err_and(|ended| ended.is_cancelled()));
}
