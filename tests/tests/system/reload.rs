//! Reloads of the plugin folder, with the ways in which people and tools change it. Each
//! change causes a reload, and nothing else does.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{PluginFolder, Server, ServerBuilder, guest_bytes};

const ALPHA: &str = "ws://alpha:6030/?tag=&uuid=935652e3-7c59-4edc-b17f-9646a9c2a265";
const BETA: &str = "ws://beta:6030/?tag=&uuid=935652e3-7c59-4edc-b17f-9646a9c2a265";

/// Interval longer than any test, so that polls find no change.
const NEVER: &str = "1h";

/// Mechanism by which a server detects changes.
#[derive(Clone, Copy, Debug)]
enum Detection {
    /// Notifications of the operating system.
    Watch,
    /// Periodic scans of the folder.
    Poll,
}

fn serve(folder: &Path, detection: Detection) -> Server {
    let (watch, poll) = match detection {
        Detection::Watch => ("true", NEVER),
        Detection::Poll => ("false", "100ms"),
    };
    ServerBuilder::new(folder)
        .env("PLUGBOARD_RELOAD_WATCH", watch)
        .env("PLUGBOARD_RELOAD_POLL_INTERVAL", poll)
        .start()
}

/// Asserts that a change of `10-a.wasm` from `alpha` to `beta` causes a reload, with each
/// mechanism.
async fn assert_reload(change: impl Fn(&Path)) {
    for detection in [Detection::Watch, Detection::Poll] {
        let folder = PluginFolder::new().with_guest("10-a", "alpha");
        let server = serve(folder.path(), detection);
        assert_eq!(server.route_call().await.as_deref(), Some(ALPHA));
        change(folder.path());
        server.wait_for_route(Some(BETA)).await;
        // The reload left no error for operators.
        let plugin = server.plugin_status("10-a").await;
        assert_eq!((&plugin["state"], &plugin["last_error"]), (&json!("active"), &Value::Null));
    }
}

/// Waits until the files are so old that they are not read again by every poll.
async fn wait_until_old(server: &Server) {
    loop {
        let before = count_scans(server, "unchanged").await;
        tokio::time::sleep(Duration::from_millis(800)).await;
        if count_scans(server, "unchanged").await == before {
            return;
        }
    }
}

/// Returns the number of scans with this result.
async fn count_scans(server: &Server, result: &str) -> u64 {
    server
        .metric_value(&format!("plugboard_reloads_total{{result=\"{result}\"}}"))
        .await
        .unwrap_or(0)
}

#[tokio::test]
async fn reload_follows_overwrite_in_place() {
    assert_reload(|folder| fs::write(folder.join("10-a.wasm"), guest_bytes("beta")).unwrap()).await;
}

#[tokio::test]
async fn reload_follows_rename_of_temporary_file() {
    assert_reload(|folder| {
        fs::write(folder.join("10-a.wasm.tmp"), guest_bytes("beta")).unwrap();
        fs::rename(folder.join("10-a.wasm.tmp"), folder.join("10-a.wasm")).unwrap();
    })
    .await;
}

/// A poll does not read old files, and detects their changes by their metadata.
#[tokio::test]
async fn poll_detects_change_of_old_files() {
    let folder = PluginFolder::new().with_guest("10-a", "alpha");
    let server = serve(folder.path(), Detection::Poll);
    wait_until_old(&server).await;
    folder.replace_guest("10-a", "beta");
    server.wait_for_route(Some(BETA)).await;
    wait_until_old(&server).await;
    folder.replace_settings("10-a", "enabled = false");
    server.wait_for_route(None).await;
}

#[tokio::test]
async fn reload_follows_rename_from_other_folder() {
    let elsewhere = tempfile::tempdir().unwrap();
    assert_reload(|folder| {
        fs::write(elsewhere.path().join("new"), guest_bytes("beta")).unwrap();
        fs::rename(elsewhere.path().join("new"), folder.join("10-a.wasm")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn reload_follows_hard_link_after_removal() {
    let elsewhere = tempfile::tempdir().unwrap();
    let artifact = elsewhere.path().join("artifact");
    fs::write(&artifact, guest_bytes("beta")).unwrap();
    assert_reload(|folder| {
        fs::remove_file(folder.join("10-a.wasm")).unwrap();
        fs::hard_link(&artifact, folder.join("10-a.wasm")).unwrap();
    })
    .await;
}

/// Each rename follows after the previous version serves. A watch of the first file would
/// miss the later ones.
#[tokio::test]
async fn reload_follows_repeated_renames() {
    for detection in [Detection::Watch, Detection::Poll] {
        let folder = PluginFolder::new().with_guest("10-a", "alpha");
        let server = serve(folder.path(), detection);
        for (guest, url) in [("beta", BETA), ("alpha", ALPHA), ("beta", BETA)] {
            folder.replace_guest("10-a", guest);
            server.wait_for_route(Some(url)).await;
        }
    }
}

/// Half of the file exists for half a second, longer than the debounce time. The previous
/// version keeps serving.
#[tokio::test]
async fn previous_version_serves_while_write_stalls() {
    for detection in [Detection::Watch, Detection::Poll] {
        let folder = PluginFolder::new().with_guest("10-a", "alpha");
        let server = serve(folder.path(), detection);
        let new = guest_bytes("beta");
        let (first, rest) = new.split_at(new.len() / 2);
        fs::write(folder.file("10-a", "wasm"), first).unwrap();
        let stalled = Instant::now();
        let mut broken = Value::Null;
        while stalled.elapsed() < Duration::from_millis(500) || broken.is_null() {
            assert_eq!(server.route_call().await.as_deref(), Some(ALPHA));
            broken = server.plugin_status("10-a").await["last_error"].clone();
        }
        assert_eq!(broken["stage"], "compile", "{broken}");
        let file = fs::OpenOptions::new().append(true).open(folder.file("10-a", "wasm"));
        std::io::Write::write_all(&mut file.unwrap(), rest).unwrap();
        server.wait_for_route(Some(BETA)).await;
        assert_eq!(server.plugin_status("10-a").await["last_error"], Value::Null);
    }
}

/// Kubernetes writes the files to a separate folder and swaps a link to it. The entry of
/// the plugin itself does not change.
#[tokio::test]
async fn reload_follows_swapped_link_to_files() {
    for detection in [Detection::Watch, Detection::Poll] {
        let folder = PluginFolder::new();
        let release = |name: &str, guest: &str| {
            let release = folder.path().join(name);
            fs::create_dir(&release).unwrap();
            fs::write(release.join("10-a.wasm"), guest_bytes(guest)).unwrap();
            let new = folder.path().join("..data_tmp");
            std::os::unix::fs::symlink(name, &new).unwrap();
            fs::rename(new, folder.path().join("..data")).unwrap();
        };
        release("..2026_01", "alpha");
        std::os::unix::fs::symlink("..data/10-a.wasm", folder.file("10-a", "wasm")).unwrap();
        let server = serve(folder.path(), detection);
        assert_eq!(server.route_call().await.as_deref(), Some(ALPHA));
        release("..2026_02", "beta");
        server.wait_for_route(Some(BETA)).await;
        release("..2026_03", "alpha");
        server.wait_for_route(Some(ALPHA)).await;
    }
}

#[tokio::test]
async fn reload_follows_recreated_folder() {
    for detection in [Detection::Watch, Detection::Poll] {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("plugins");
        let put = |guest| fs::write(folder.join("10-a.wasm"), guest_bytes(guest)).unwrap();
        fs::create_dir(&folder).unwrap();
        put("alpha");
        let server = serve(&folder, detection);
        fs::remove_dir_all(&folder).unwrap();
        // While the folder is unreadable, its plugins keep serving.
        server.wait_for_log(|line| message(line).contains("the serving plugins stay"));
        assert_eq!(server.route_call().await.as_deref(), Some(ALPHA));
        fs::create_dir(&folder).unwrap();
        put("beta");
        server.wait_for_route(Some(BETA)).await;
        // The new folder is watched like the old one.
        put("alpha");
        server.wait_for_route(Some(ALPHA)).await;
    }
}

/// The path of the folder is a link, as in `current -> releases/2`.
#[tokio::test]
async fn reload_follows_swapped_link_to_folder() {
    for detection in [Detection::Watch, Detection::Poll] {
        let above = tempfile::tempdir().unwrap();
        let current = above.path().join("current");
        let release = |name: &str, guest: &str| {
            fs::create_dir(above.path().join(name)).unwrap();
            fs::write(above.path().join(name).join("10-a.wasm"), guest_bytes(guest)).unwrap();
            std::os::unix::fs::symlink(name, above.path().join("new")).unwrap();
            fs::rename(above.path().join("new"), &current).unwrap();
        };
        release("1", "alpha");
        let server = serve(&current, detection);
        for (name, guest, url) in [("2", "beta", BETA), ("3", "alpha", ALPHA)] {
            release(name, guest);
            server.wait_for_route(Some(url)).await;
        }
    }
}

/// The copy keeps the size and the modification time of the previous file.
#[tokio::test]
async fn poll_detects_change_with_same_size_and_time() {
    let folder = PluginFolder::new().with_guest("10-a", "alpha");
    let file = folder.file("10-a", "wasm");
    let server = serve(folder.path(), Detection::Poll);
    wait_until_old(&server).await;
    let before = fs::metadata(&file).unwrap();
    let new = guest_bytes("beta");
    assert_eq!(before.len(), new.len() as u64, "both guests must have the same size");
    fs::write(&file, new).unwrap();
    let times = fs::FileTimes::new().set_modified(before.modified().unwrap());
    fs::File::options().append(true).open(&file).unwrap().set_times(times).unwrap();
    server.wait_for_route(Some(BETA)).await;
}

#[tokio::test]
async fn reading_files_causes_no_reload() {
    let folder = PluginFolder::new().with_guest("10-a", "alpha");
    let server = serve(folder.path(), Detection::Watch);
    // Pending notifications about the creation of the folder arrive first.
    let quiet = Duration::from_millis(600);
    tokio::time::sleep(quiet).await;
    let before = count_scans(&server, "unchanged").await;
    for _ in 0..20 {
        fs::read(folder.file("10-a", "wasm")).unwrap();
    }
    // The absence of a scan cannot be awaited, so the test sleeps.
    tokio::time::sleep(quiet).await;
    assert_eq!(count_scans(&server, "unchanged").await, before);
    // A scan also reads files, and does not cause another scan.
    fs::write(folder.path().join("notes.txt"), "x").unwrap();
    while count_scans(&server, "unchanged").await == before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(quiet).await;
    assert_eq!(count_scans(&server, "unchanged").await, before + 1);
    assert_eq!(server.admin_get("/plugins").await.body["generation"], 1);
}

#[tokio::test]
async fn reload_follows_change_of_settings_alone() {
    let folder = PluginFolder::new().with_guest("10-a", "alpha");
    let server = serve(folder.path(), Detection::Watch);
    let tagged = ALPHA.replace("tag=", "tag=new");
    fs::write(folder.file("10-a", "toml"), "[config]\ntag = 'new'\n").unwrap();
    server.wait_for_route(Some(&tagged)).await;
    fs::write(folder.file("10-a", "toml"), "enabled = false\n").unwrap();
    server.wait_for_route(None).await;
    assert_eq!(server.plugin_status("10-a").await["state"], "disabled");
    fs::remove_file(folder.file("10-a", "toml")).unwrap();
    server.wait_for_route(Some(ALPHA)).await;
}

/// A plugin and its settings are copied one after the other. No call sees a mix of both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_and_settings_change_together() {
    let folder = PluginFolder::new()
        .with_guest("10-a", "alpha")
        .with_settings("10-a", "[config]\ntag = 'alpha'\n");
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_RELOAD_POLL_INTERVAL", NEVER);
    let server = Arc::new(setup.env("PLUGBOARD_RELOAD_DEBOUNCE", "4s").start());
    let (seen, done) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let calls = tokio::spawn({
        let (server, seen, done) = (Arc::clone(&server), Arc::clone(&seen), Arc::clone(&done));
        async move {
            while !done.load(Ordering::Relaxed) {
                let url = server.route_call().await.unwrap();
                seen.lock().unwrap().push(url);
            }
        }
    });
    let url = |name: &str| BETA.replace("beta", name).replace("tag=", &format!("tag={name}"));
    for name in ["beta", "alpha", "beta"] {
        folder.replace_guest("10-a", name);
        // This is the delay between two commands in one line of a shell.
        tokio::time::sleep(Duration::from_millis(250)).await;
        fs::write(folder.file("10-a", "toml"), format!("[config]\ntag = '{name}'\n")).unwrap();
        server.wait_for_route(Some(&url(name))).await;
    }
    done.store(true, Ordering::Relaxed);
    calls.await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|it| *it == url("alpha") || *it == url("beta")), "{seen:?}");
}

#[tokio::test]
async fn sighup_and_admin_request_reload_without_watch() {
    let folder = PluginFolder::new().with_guest("10-a", "alpha");
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_RELOAD_WATCH", "false")
        .env("PLUGBOARD_RELOAD_POLL_INTERVAL", NEVER)
        .start();
    folder.replace_guest("10-a", "beta");
    server.send_sighup();
    server.wait_for_route(Some(BETA)).await;

    folder.replace_guest("10-a", "alpha");
    fs::write(folder.file("20-b", "wasm"), guest_bytes("beta")).unwrap();
    fs::write(folder.file("30-c", "wasm"), "no plugin").unwrap();
    let report = server.reload().await;
    assert_eq!(report["generation"], 3);
    assert_eq!((&report["added"], &report["updated"]), (&json!(["20-b"]), &json!(["10-a"])));
    assert_eq!((&report["removed"], &report["unchanged"]), (&json!([]), &json!(0)));
    let failed = &report["failed"][0];
    assert_eq!((&failed["name"], &failed["serving"]), (&json!("30-c"), &json!(false)));
    assert_eq!(failed["error"]["label"], "not_wasm");
    // The new plugins answer as soon as the request has returned.
    assert_eq!(server.route_call().await.as_deref(), Some(ALPHA));
    let report = server.reload().await;
    assert_eq!((&report["generation"], &report["unchanged"]), (&json!(3), &json!(2)));

    fs::remove_dir_all(folder.path()).unwrap();
    let answer = server.admin_post("/reload", "").await;
    assert_eq!((answer.status, &answer.body["error"]["code"]), (503, &json!("folder_unreadable")));
    fs::create_dir(folder.path()).unwrap();
    assert_eq!(server.reload().await["removed"], json!(["10-a", "20-b"]));
    let line = server.wait_for_log(|line| message(line).contains("the last plugin was removed"));
    assert_eq!(line["level"], "ERROR");
    assert_eq!(server.route_call().await, None);
}

#[tokio::test]
async fn broken_file_does_not_affect_serving_version() {
    let folder = PluginFolder::new().with_guest("10-a", "alpha");
    let server = serve(folder.path(), Detection::Watch);
    let good = server.plugin_status("10-a").await;
    let bad = &guest_bytes("beta")[..1000];
    fs::write(folder.file("10-a", "wasm"), bad).unwrap();
    let plugin = server.wait_for_plugin("10-a", |row| !row["last_error"].is_null()).await;
    assert_eq!(server.route_call().await.as_deref(), Some(ALPHA));
    let error = &plugin["last_error"];
    assert_eq!((&error["stage"], &error["label"]), (&json!("compile"), &json!("malformed")));
    assert!(error["message"].as_str().unwrap().contains("damaged or incomplete"), "{error}");
    assert_eq!((&plugin["state"], &plugin["digest"]), (&json!("active"), &good["digest"]));
    assert!(error["digest"].is_string() && error["digest"] != good["digest"], "{error}");
    // The server is ready while a version of each plugin serves.
    assert_eq!(server.admin_get("/readyz").await.status, 200);
    let failures = "plugboard_plugin_load_failures_total{stage=\"compile\"}";
    assert_eq!(server.metric_value(failures).await, Some(1));
    // Another reload neither examines the file again nor counts another failure.
    let report = server.reload().await;
    assert_eq!(report["failed"][0]["error"], *error);
    assert_eq!(server.metric_value(failures).await, Some(1));

    // With invalid settings, the good file is not loaded either.
    fs::write(folder.file("10-a", "toml"), "enabeld = true\n").unwrap();
    folder.replace_guest("10-a", "beta");
    let plugin =
        server.wait_for_plugin("10-a", |row| row["last_error"]["stage"] == "settings").await;
    assert!(plugin["last_error"]["message"].as_str().unwrap().contains("`enabled`"), "{plugin}");
    assert_eq!(server.route_call().await.as_deref(), Some(ALPHA));
    // The valid settings fix it.
    fs::write(folder.file("10-a", "toml"), "enabled = true\n").unwrap();
    server.wait_for_route(Some(BETA)).await;
    assert_eq!(server.plugin_status("10-a").await["last_error"], Value::Null);
}

/// A restart uses compiled code from the data folder, unless the code was replaced.
#[tokio::test]
async fn compiled_code_is_cached_and_verified() {
    let (folder, data) =
        (PluginFolder::new().with_guest("10-a", "alpha"), tempfile::tempdir().unwrap());
    let setup = || ServerBuilder::new(folder.path()).with_data_folder(data.path()).start();
    let compiled = || {
        let files = fs::read_dir(data.path().join("compiled")).unwrap();
        let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    setup().stop();
    let [file] = &compiled()[..] else { panic!("{:?}", compiled()) };
    let (first, code) = (inode(file), fs::read(file).unwrap());
    let mut server = setup();
    assert_eq!(server.route_call().await.as_deref(), Some(ALPHA));
    assert!(!server.stop().contains("machine code"));
    assert_eq!(inode(file), first, "the code must not be compiled again");

    // The cache file of `alpha` gets the code of `beta`.
    folder.replace_guest("10-a", "beta");
    setup().stop();
    let other = compiled().into_iter().find(|path| path != file).unwrap();
    fs::write(file, fs::read(other).unwrap()).unwrap();
    folder.replace_guest("10-a", "alpha");
    let server = setup();
    assert_eq!(server.route_call().await.as_deref(), Some(ALPHA));
    let line = server.wait_for_log(|line| message(line).contains("cached machine code rejected"));
    assert!(line["reason"].as_str().unwrap().contains("another component"), "{line}");
    assert_eq!(fs::read(file).unwrap(), code, "the code must be compiled again");

    // Compiled code in the plugin folder is not a plugin.
    fs::write(folder.file("20-b", "cwasm"), &code).unwrap();
    fs::write(folder.file("30-c", "wasm"), &code[code.len() - 5000..]).unwrap();
    let report = server.reload().await;
    assert_eq!(report["failed"].as_array().unwrap().len(), 2, "{report}");
}

fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap_or_default()
}
