//! A platform that this version does not support is served without changes to the server.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml allows these in test functions, but not in their helpers"
)]

mod toy;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use tokio_util::sync::CancellationToken;

use self::toy::{TOY, ToyAdapter};
use plugboard_config::{Flags, load};
use plugboard_core::platforms;
use plugboard_events::dispatch::Dispatcher;
use plugboard_events::journal::{Journal, Subscriptions};
use plugboard_registry::Registry;
use plugboard_registry::reload::{Reconciler, Reloader, ScanMode};
use plugboard_routing::idempotency::IdempotencyCache;
use plugboard_routing::mid_call::MidCall;
use plugboard_routing::router::Router;
use plugboard_runtime::engine::{Engine, Purpose};
use plugboard_runtime::plugin::Loader;
use plugboard_server::live::Live;
use plugboard_server::metrics::Metrics;
use plugboard_server::{Server, Services};
use plugboard_store::Store;
use plugboard_store::sqlite::SqliteStore;

/// Returns a sample plugin, as `cargo xtask test` builds it.
fn sample_plugin(name: &str) -> Vec<u8> {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(3).unwrap().join("plugins").join(name);
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask test`", path.display()))
}

/// Returns a server on free ports. Needs a runtime.
async fn serve(folder: &Path) -> (Server, Arc<dyn Store>) {
    let data = folder.join("data");
    let flags = Flags {
        plugins: Some(folder.to_owned()),
        data: Some(data.clone()),
        listen: Some(([127, 0, 0, 1], 0).into()),
        admin: Some(([127, 0, 0, 1], 0).into()),
        ..Flags::default()
    };
    std::fs::create_dir(&data).unwrap();
    let config = load(flags, []).unwrap().config;
    let engine = Engine::start(&config.engine, Purpose::Serve { threads: 2 }).unwrap();
    let store = SqliteStore::start(&data, config.journal.clone(), config.kv.max_total).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let loader = Loader::new(engine.clone(), None, Some(Arc::clone(&store)), &config).unwrap();
    let registry = Arc::new(Registry::default());
    let metrics = Arc::new(Metrics::default());
    let witness = Arc::clone(&metrics);
    let mut reconciler = Reconciler::new(loader, folder.to_owned(), Arc::clone(&registry), witness);
    reconciler.reconcile(ScanMode::Full).await.unwrap();
    let (live, live_task) = Live::new(config.calls.max_age);
    tokio::spawn(live_task.run(CancellationToken::new()));
    let (_, reload) = Reloader::new(reconciler, config.reload.clone(), Box::new(|_| {}));
    let interest = Arc::new(Subscriptions::default());
    let (dispatcher, supervisor) = Dispatcher::new(
        Arc::clone(&registry),
        Arc::clone(&store),
        Arc::clone(&interest),
        config.events.clone(),
        config.journal.clone(),
        1,
        Duration::from_secs(1),
    );
    tokio::spawn(supervisor.run(CancellationToken::new()));
    // The store must have a consumer for each observer of the generation.
    assert!(
        dispatcher.wait_until_adopted(registry.current().number, Duration::from_secs(60)).await
    );
    let journal = Journal::new(Arc::clone(&store), interest, config.calls.clone());
    let mut adapters = plugboard_platform::adapters(&config);
    adapters.push(Arc::new(ToyAdapter));
    let services = Services {
        router: Arc::new(Router::new(config.routing.clone(), &config.cache)),
        mid_call: Arc::new(MidCall::new(&engine, &config.cache, &config.idempotency)),
        idempotency: IdempotencyCache::for_decisions(&config.idempotency),
        engine,
        registry,
        journal: Arc::new(journal),
        store: Arc::clone(&store),
        dispatcher: Arc::new(dispatcher),
        live,
        reload,
        tls: None,
    };
    (Server::bind(config, adapters, services, metrics).unwrap(), store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_platform_is_served_end_to_end() {
    platforms::add(&[TOY]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("10-number-plan.wasm", &sample_plugin("10-number-plan.wasm"));
    // Settings can name the platform.
    let settings = "platforms = ['toy']\n[config]\n5001 = 'ws://sts/{platform}?from={from}'\n";
    write("10-number-plan.toml", settings.as_bytes());
    let (server, store) = serve(folder.path()).await;
    let address = server.webhook_address().unwrap();
    let admin = server.admin_address().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(stop.clone()));

    let (client, _) = plugboard_tls::client_roots::build_client(reqwest::Client::builder).unwrap();
    let post = async |url: String, toy: bool, body: &'static str| {
        let mut request = client.post(url).body(body);
        if toy {
            request = request.header("x-toy", "yes");
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let toy = async |body| post(format!("http://{address}/toy"), true, body).await;
    let routed = (StatusCode::OK, "go ws://sts/toy?from=%2B39".to_owned());
    assert_eq!(toy("rings call-1 +39 5001").await, routed);
    assert_eq!(toy("rings call-2 +39 1").await, (StatusCode::OK, "go on".to_owned()));
    // A redelivery runs no plugin.
    assert_eq!(toy("rings call-1 +39 5001").await, routed);
    assert_eq!(toy("talks call-1").await, (StatusCode::OK, r#"{"status":"ok"}"#.to_owned()));
    let (status, error) = toy("rings").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error.contains("expected a verb and a call"), "{error}");
    let long = post(format!("http://{address}/toy"), true, include_str!("main.rs")).await;
    assert_eq!(long.0, StatusCode::PAYLOAD_TOO_LARGE);
    let unauthorized = post(format!("http://{address}/toy"), false, "rings call-3 +39 5001").await;
    assert_eq!(unauthorized.0, StatusCode::UNAUTHORIZED);
    // The plugin does not match calls of AVR.
    let call = r#"{"uuid":"u","type":"call_initiated","timestamp":"2026-01-01T00:00:00Z",
        "payload":{"to":"5001"}}"#;
    let avr = post(format!("http://{address}/events"), false, call).await;
    assert_eq!(avr, (StatusCode::OK, "{}".to_owned()));
    let (_, explained) = post(format!("http://{admin}/explain"), false, "rings c +39 5001").await;
    assert!(explained.contains(r#""answer":"go ws://sts/toy?from=%2B39""#), "{explained}");

    stop.cancel();
    running.await.unwrap();
    store.close().await;
}
