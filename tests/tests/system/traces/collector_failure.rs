//! Failures of the collector: the server loses spans, and nothing else.

use std::time::{Duration, Instant};

use tests::{
    PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, Server, ServerBuilder, call_initiated,
};

use super::otlp::{Behaviour, Otlp};

/// Number of calls in each test.
const CALLS: usize = 60;

/// Upper limit of a shutdown without requests in flight. The flush of spans has two seconds,
/// although an export can take five.
const END: Duration = Duration::from_secs(4);

fn folder() -> PluginFolder {
    PluginFolder::new().with_guest("10-good", ROUTING_GUEST)
}

/// Asserts that the server answers calls in time and stops in time. Returns its log.
async fn serve_and_stop(server: &mut Server) -> String {
    let client = tests::client();
    for _ in 0..CALLS {
        let answer = server.post_with_client(&client, &[], call_initiated()).await;
        assert_eq!((answer.status, answer.sts_url()), (200, Some(ROUTING_GUEST_URL)));
        // The time limit of a decision. A wait for the collector would exceed it.
        assert!(answer.elapsed < Duration::from_secs(2), "{:?}", answer.elapsed);
    }
    server.wait_for_metric("plugboard_spans_dropped_total", 1).await;
    // This call leaves spans pending at the end.
    server.post(call_initiated()).await;
    let start = Instant::now();
    let log = server.stop();
    assert!(start.elapsed() < END, "{:?}", start.elapsed());
    log
}

/// Returns the number of log lines about failed exports.
fn count_export_errors(log: &str) -> usize {
    log.lines().filter(|line| line.contains("the OTLP collector rejects them")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreachable_collector_costs_only_spans() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = folder();
    let mut server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_TRACES_OTLP_ENDPOINT", &format!("http://{address}/v1/traces"))
        .start();
    let log = serve_and_stop(&mut server).await;
    assert_eq!(count_export_errors(&log), 1, "{log}");
    assert!(log.contains("refused") && log.contains(&format!("http://{address}\"")), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejecting_collector_costs_only_spans() {
    for status in [500, 503] {
        let (otlp, folder) = (Otlp::start(Behaviour::Rejects(status)).await, folder());
        let mut server = otlp.configure(ServerBuilder::new(folder.path())).start();
        let log = serve_and_stop(&mut server).await;
        assert_eq!(count_export_errors(&log), 1, "{log}");
        assert!(log.contains(&status.to_string()), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_collector_costs_only_spans() {
    let (otlp, folder) = (Otlp::start(Behaviour::Hangs).await, folder());
    let mut server = otlp.configure(ServerBuilder::new(folder.path())).start();
    let log = serve_and_stop(&mut server).await;
    assert_eq!(count_export_errors(&log), 1, "{log}");
    assert!(log.contains("did not answer in time"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_spans_are_exported_at_shutdown() {
    let (otlp, folder) = (Otlp::start(Behaviour::Accepts).await, folder());
    let mut server = otlp.configure(ServerBuilder::new(folder.path())).start();
    let client = tests::client();
    for _ in 0..CALLS {
        server.post_with_client(&client, &[], call_initiated()).await;
    }
    let log = server.stop();
    assert_eq!(count_export_errors(&log), 0, "{log}");
    let webhooks = otlp.spans().into_iter().filter(|span| span.name == "webhook").count();
    assert_eq!(webhooks, CALLS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn span_metrics_exist_only_with_tracing() {
    let (otlp, folder) = (Otlp::start(Behaviour::Accepts).await, folder());
    let server = otlp.configure(ServerBuilder::new(folder.path())).start();
    server.post(call_initiated()).await;
    server.wait_for_metric("plugboard_spans_exported_total", 3).await;
    assert_eq!(server.metric_value("plugboard_spans_dropped_total").await, Some(0));
    let server = ServerBuilder::new(folder.path()).start();
    assert!(!server.metrics_text().await.contains("plugboard_spans"));
}
