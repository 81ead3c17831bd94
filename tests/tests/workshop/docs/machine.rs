//! Machines of the readers: where the commands of a block run, and the state that the machine
//! has before.

use super::page::{Block, Page, page_named, root};
use super::steps;

/// Machine on which the reader of a block types its commands. Each page has its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Machine {
    /// The repository after `cargo xtask run`, beside its server.
    Repository,
    /// A plugin author, with cargo.
    Author,
    /// A machine with systemd. Plugboard is installed, unless the page installs it.
    Service,
    /// A machine with Docker. A container runs, unless the page starts one.
    Container,
    /// A workstation with access to a Kubernetes cluster.
    Cluster,
}

/// Page whose commands install Plugboard on the machines of the other pages.
pub const INSTALLATION: &str = "docs/operations/deploy.md";

/// Pages that begin on a machine without Plugboard.
const INSTALLATIONS: [&str; 2] = [INSTALLATION, "deploy/README.md"];

/// Settings of the server beside [`Machine::Repository`] and [`Machine::Author`]. The machine
/// is busy, so plugins have more time, and no event waits for the disk.
const SERVER_ENVIRONMENT: &str = "PLUGBOARD_PLUGIN_LIMITS_TIMEOUT=1s \
    PLUGBOARD_JOURNAL_SYNC=normal PLUGBOARD_BLACKBOX_ENABLED=true \
    PLUGBOARD_BLACKBOX_HEADERS='X-API-Key: first-secret' \
    PLUGBOARD_BLACKBOX_SIGNING_SECRETS=second-secret";

/// Beginning of each script. An HTTP error fails the test, because of `--fail`. A server runs
/// in the background, because the reader has further terminals. The simulator's default time
/// limit is short.
const FUNCTIONS: &str = r#"set -euo pipefail
curl() { command curl --fail --no-progress-meter "$@"; }
plugboard() {
    case $1 in
    serve)
        env ENVIRONMENT plugboard "$@" > /out/server.log 2>&1 &
        local server=$!
        until command plugboard health > /dev/null 2>&1; do
            kill -0 $server || { cat /out/server.log; return 1; }
            sleep 0.1
        done ;;
    simulate) command plugboard "$@" --timeout 60s ;;
    *) command plugboard "$@" ;;
    esac
}
"#;

/// Search path of the fakes' machines. Commands on it must not reach the real systemd, Docker or
/// cluster of this machine.
const FAKES_PATH: &str = "export PATH=FAKES:REPOSITORY/target/schemas/bin:\
    /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n";

impl Machine {
    /// Returns the machine of a block, or None if the block has no commands.
    pub fn of(page: &Page, block: &Block) -> Option<Self> {
        let is_guide = ["docs/guide/", "plugins/"].iter().any(|it| page.name.starts_with(it));
        let is_operation = ["docs/", "deploy/"].iter().any(|it| page.name.starts_with(it));
        match block.language.as_str() {
            "sh" if page.name.ends_with("first-plugin.md") => Some(Self::Author),
            "sh" => Some(Self::Repository),
            "console" if is_guide => Some(Self::Author),
            "console" if !is_operation => Some(Self::Repository),
            "console" if block.text.contains("docker ") => Some(Self::Container),
            "console" if block.text.contains("kubectl ") => Some(Self::Cluster),
            "console" => Some(Self::Service),
            _ => None,
        }
    }

    /// Returns the script that brings the machine into the state before a page's commands.
    pub fn prepare(self, page: &Page) -> String {
        let root = root().display().to_string();
        let fakes = format!("{root}/tests/tests/workshop/docs/fakes");
        let fakes_path = FAKES_PATH.replace("FAKES", &fakes).replace("REPOSITORY", &root);
        let mut script = FUNCTIONS.replace("ENVIRONMENT", SERVER_ENVIRONMENT);
        script += "cd ~/plugboard\n";
        match self {
            Self::Repository => {
                script += "export PATH=$PWD/target/release:/usr/bin:/bin\n";
                // `cargo xtask run` builds the samples in Rust only.
                script += "rm -f target/plugins/8*\n";
                script += "plugboard serve --plugins target/plugins --data /tmp/data\n";
            }
            Self::Author => script += &steps::author_folder(page),
            Self::Service | Self::Container | Self::Cluster => {
                script += &fakes_path;
                script += "mkdir -p target/dist\nln -sf \"$DIST_PROGRAM\" target/dist/plugboard\n";
            }
        }
        let is_installed = matches!(self, Self::Service | Self::Container);
        if is_installed && !INSTALLATIONS.contains(&page.name.as_str()) {
            script += "{\n";
            for block in page_named(INSTALLATION).blocks() {
                script += &self.commands(&page_named(INSTALLATION), &block);
            }
            script += "} > /out/installation 2>&1\n";
        }
        script
    }

    /// Returns the script of a block on this machine: the steps that the text describes, and
    /// the block's commands. It is empty for blocks of other machines.
    pub fn commands(self, page: &Page, block: &Block) -> String {
        let mut script = String::new();
        for step in steps::before(page, block).filter(|step| step.machine == self) {
            script += &step.script();
            script.push('\n');
        }
        if Self::of(page, block) == Some(self) {
            script += &block.script();
        }
        script
    }

    /// Returns the script that checks the machine after a page's commands.
    pub fn check(self) -> &'static str {
        match self {
            // A server without access to its database decides calls, and answers `health`.
            Self::Service => {
                "curl -s http://127.0.0.1:9901/metrics | grep -x 'plugboard_store_up 1' || {
                    echo 'the server has no access to its database' >&2
                    exit 1
                }\n"
            }
            _ => "",
        }
    }
}
