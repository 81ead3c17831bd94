//! A collector that is gone, slow or broken costs spans, and nothing else.

use std::time::{Duration, Instant};

use tests::{
    PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, Server, ServerBuilder, call_initiated,
};

use super::otlp::{Behaviour, Otlp};

/// Calls that are answered while spans cannot be sent.
const CALLS: usize = 60;

/// The longest time for a process with nothing in flight to end in: spans have two
/// seconds, where sending them could take five.
const END: Duration = Duration::from_secs(4);

fn folder() -> PluginFolder {
    PluginFolder::new().with_guest("10-good", ROUTING_GUEST)
}

/// Calls are answered as ever; then the process ends as soon as it should.
async fn serves_and_ends(server: &mut Server) -> String {
    let client = tests::client();
    for _ in 0..CALLS {
        let answer = server.post_with_client(&client, &[], call_initiated()).await;
        assert_eq!((answer.status, answer.sts_url()), (200, Some(ROUTING_GUEST_URL)));
        // The budget of a call: whatever waited for the collector would be later.
        assert!(answer.elapsed < Duration::from_secs(2), "{:?}", answer.elapsed);
    }
    server.wait_for_metric("plugboard_spans_lost_total", 1).await;
    // So that something waits at the end.
    server.post(call_initiated()).await;
    let start = Instant::now();
    let log = server.stop();
    assert!(start.elapsed() < END, "{:?}", start.elapsed());
    log
}

/// How often the log complains of the collector while it serves.
fn complaints(log: &str) -> usize {
    log.lines().filter(|line| line.contains("the collector does not take them")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_gone_costs_nothing_but_spans() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = folder();
    let mut server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_TRACES_ENDPOINT", &format!("http://{gone}/v1/traces"))
        .start();
    let log = serves_and_ends(&mut server).await;
    assert_eq!(complaints(&log), 1, "{log}");
    assert!(log.contains("refused") && log.contains(&format!("http://{gone}\"")), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_refuses_costs_nothing_but_spans() {
    for status in [500, 503] {
        let (otlp, folder) = (Otlp::start(Behaviour::Refuses(status)).await, folder());
        let mut server = otlp.of(ServerBuilder::new(folder.path())).start();
        let log = serves_and_ends(&mut server).await;
        assert_eq!(complaints(&log), 1, "{log}");
        assert!(log.contains(&status.to_string()), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_costs_nothing_but_spans() {
    let (otlp, folder) = (Otlp::start(Behaviour::Hangs).await, folder());
    let mut server = otlp.of(ServerBuilder::new(folder.path())).start();
    let log = serves_and_ends(&mut server).await;
    assert_eq!(complaints(&log), 1, "{log}");
    assert!(log.contains("did not answer in time"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_the_end_is_sent() {
    let (otlp, folder) = (Otlp::start(Behaviour::Takes).await, folder());
    let mut server = otlp.of(ServerBuilder::new(folder.path())).start();
    let client = tests::client();
    for _ in 0..CALLS {
        server.post_with_client(&client, &[], call_initiated()).await;
    }
    let log = server.stop();
    assert_eq!(complaints(&log), 0, "{log}");
    let webhooks = otlp.spans().into_iter().filter(|span| span.name == "webhook").count();
    assert_eq!(webhooks, CALLS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_of_spans_are_there_only_where_there_are_spans() {
    let (otlp, folder) = (Otlp::start(Behaviour::Takes).await, folder());
    let server = otlp.of(ServerBuilder::new(folder.path())).start();
    server.post(call_initiated()).await;
    server.wait_for_metric("plugboard_spans_exported_total", 3).await;
    assert_eq!(server.metric_value("plugboard_spans_lost_total").await, Some(0));
    let server = ServerBuilder::new(folder.path()).start();
    assert!(!server.metrics_text().await.contains("plugboard_spans"));
}
