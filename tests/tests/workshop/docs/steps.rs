//! Steps that the text of a page describes in words, such as a file to save.

use super::machine::{INSTALLATION, Machine};
use super::page::{Block, Page, page_named};

/// Step before a block.
pub struct Step {
    /// Page of the block.
    page: &'static str,
    /// Beginning of the block.
    before: &'static str,
    /// Machine on which the step is done.
    pub machine: Machine,
    action: Action,
}

/// What a step does.
enum Action {
    /// Saves a block of a page as a file: page, beginning of the block, path.
    Save(&'static str, &'static str, &'static str),
    /// Runs a script.
    Run(&'static str),
    /// Runs the commands of another page on the same machine: page, beginning of the block.
    Follow(&'static str, &'static str),
}

use Action::{Follow, Run, Save};
use Machine::{Author, Cluster, Container, Service};

/// Beginning of the first configuration.
const CONFIGURATION: &str = "listen = ";

/// Deployed plugins of a machine whose page does not install them.
const PLUGINS: &str = "install -d /etc/plugboard/plugins
    install -m 644 target/plugins/10-number-plan.* /etc/plugboard/plugins/";

/// Plugins beside the compose file.
const DEPLOY_PLUGINS: &str = "install -D -m 644 -t deploy/plugins target/plugins/10-number-plan.*; export OPENAI_API_KEY=key";

/// Certificate of certbot, which signs it itself here.
const CERTIFICATE: &str = "live=/etc/letsencrypt/live/plugboard.example.com
    install -d -m 700 /etc/letsencrypt /etc/letsencrypt/live $live
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \\
        -subj /CN=plugboard.example.com -addext subjectAltName=DNS:plugboard.example.com \\
        -keyout $live/privkey.pem -out $live/fullchain.pem 2> /dev/null";

/// Events that the commands of a page look for in log and metrics: a request from a proxy without
/// `X-Forwarded-For`, and a database that another process has locked for some time.
const TROUBLES: &str = r#"
set -a; . /etc/plugboard/secrets; set +a
export PLUGBOARD_ADMIN_TOKEN=token-for-tests-only
cat >> /etc/plugboard/plugboard.toml << END
[ingress]
allowed_networks = ["127.0.0.1"]
trusted_proxies = ["127.0.0.2"]
END
systemctl stop plugboard
exec 9< /var/lib/plugboard/plugboard.lock
flock 9
systemctl start plugboard
exec 9<&-
until curl http://127.0.0.1:9901/metrics | grep -q 'plugboard_store_up 1'; do sleep 0.1; done
command curl --silent --interface 127.0.0.2 -d '{}' http://127.0.0.1:9000/events
until journalctl -u plugboard | grep -q 'requests rejected'; do sleep 0.1; done
"#;

/// Checks HTTPS, renews the certificate, and runs the hook as certbot does.
const RENEWAL: &str = "hook=/etc/letsencrypt/renewal-hooks/deploy/plugboard
    chmod 755 $hook
    health=https://plugboard.example.com:9000/health
    curl --cacert /etc/plugboard/fullchain.pem $health
    RENEWED_LINEAGE=/etc/letsencrypt/live/other $hook
    RENEWED_LINEAGE=$live $hook
    cmp $live/fullchain.pem /etc/plugboard/fullchain.pem
    cmp $live/privkey.pem /etc/plugboard/privkey.pem
    curl -X POST http://127.0.0.1:9901/reload
    curl --cacert $live/fullchain.pem $health";

/// Returns a step that does something before a block.
const fn step(page: &'static str, before: &'static str, machine: Machine, action: Action) -> Step {
    Step { page, before, machine, action }
}

const DEPLOYING: &str = "docs/guide/deploying.md";
const DEPLOY_README: &str = "deploy/README.md";
const INTERNET: &str = "docs/operations/internet.md";
const TROUBLESHOOTING: &str = "docs/operations/troubleshooting.md";

/// All steps, in the order of each page.
static STEPS: [Step; 21] = [
    step(DEPLOYING, "$ cargo build", Author, Save("docs/guide/decisions.md", "use ", "src/lib.rs")),
    step(
        DEPLOYING,
        "$ cargo build",
        Author,
        Run("mkdir -p /etc/plugboard/plugins; ln -s \"$CARGO_TARGET_DIR\" target"),
    ),
    step(
        DEPLOYING,
        "$ cargo build",
        Author,
        Save("docs/guide/first-plugin.md", "# Values", "/etc/plugboard/plugins/10-vip.toml"),
    ),
    step(
        "docs/guide/testing.md",
        "$ plugboard build",
        Author,
        Run("plugboard new vip; cd vip; ln -s \"$CARGO_TARGET_DIR\" target"),
    ),
    step(INSTALLATION, "$ install", Service, Save(INSTALLATION, CONFIGURATION, "plugboard.toml")),
    step(INSTALLATION, "$ export WEBHOOK", Container, Run(PLUGINS)),
    step(DEPLOY_README, "$ export WEBHOOK", Container, Run(PLUGINS)),
    step(DEPLOY_README, "$ cd deploy", Container, Run(DEPLOY_PLUGINS)),
    step(DEPLOY_README, "$ kubectl create", Cluster, Run(DEPLOY_PLUGINS)),
    step(
        DEPLOY_README,
        "$ cargo build",
        Service,
        Save(INSTALLATION, CONFIGURATION, "plugboard.toml"),
    ),
    step(
        "docs/operations/upgrade.md",
        "$ ./plugboard-new",
        Service,
        Run("cp target/dist/plugboard plugboard-new"),
    ),
    step(INTERNET, "$ groupadd", Service, Run(CERTIFICATE)),
    step(INTERNET, "$ groupadd", Service, Save(INTERNET, "[tls]", "tls.toml")),
    step(INTERNET, "$ groupadd", Service, Run("cat tls.toml >> /etc/plugboard/plugboard.toml")),
    step(
        INTERNET,
        "#!/bin/sh",
        Service,
        Save(INTERNET, "#!/bin/sh", "/etc/letsencrypt/renewal-hooks/deploy/plugboard"),
    ),
    step(INTERNET, "#!/bin/sh", Service, Run(CERTIFICATE)),
    step(INTERNET, "#!/bin/sh", Service, Run(RENEWAL)),
    step(TROUBLESHOOTING, "$ curl -i", Service, Run(TROUBLES)),
    step(TROUBLESHOOTING, "$ openssl", Service, Follow(INTERNET, "$ groupadd")),
    step("plugins/javascript-skills/README.md", "$ npm run", Author, Run(PLUGIN_FOLDER)),
    step("plugins/python-languages/README.md", "$ componentize-py", Author, Run(PLUGIN_FOLDER)),
];

/// Plugin folder of a server.
const PLUGIN_FOLDER: &str = "mkdir -p /etc/plugboard/plugins";

/// Returns the steps before a block.
pub fn before<'a>(page: &'a Page, block: &'a Block) -> impl Iterator<Item = &'static Step> + 'a {
    STEPS.iter().filter(|step| step.page == page.name && block.text.starts_with(step.before))
}

impl Step {
    /// Returns the script of the step.
    pub fn script(&self) -> String {
        match self.action {
            Save(page, start, path) => {
                let text = block(page, start).text;
                format!("mkdir -p \"$(dirname {path})\"\ncat > {path} << 'END'\n{text}END\n")
            }
            Run(script) => format!("{script}\n"),
            Follow(page, start) => self.machine.commands(&page_named(page), &block(page, start)),
        }
    }
}

/// Returns the block of a page that begins with this text.
fn block(page: &str, start: &str) -> Block {
    let mut blocks = page_named(page).blocks().into_iter();
    blocks
        .find(|block| block.text.starts_with(start))
        .unwrap_or_else(|| panic!("{page}: no block begins with {start:?}"))
}

/// Returns the script that enters the directory where a page for authors begins.
pub fn author_folder(page: &Page) -> String {
    let sample = page.name.strip_suffix("/README.md");
    match sample.and_then(|folder| folder.strip_prefix("plugins/")) {
        Some(name) => format!("cd plugins/{name}\n"),
        // This page puts the program on the PATH itself.
        None if page.name.ends_with("first-plugin.md") => String::new(),
        None => "export PATH=$PWD/target/release:$PATH\ncd ~\n".to_owned(),
    }
}

#[test]
fn every_step_has_its_block() {
    for step in &STEPS {
        assert!(!block(step.page, step.before).text.is_empty());
        assert!(!step.script().is_empty());
    }
}
