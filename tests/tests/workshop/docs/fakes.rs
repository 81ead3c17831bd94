//! The fakes of systemd, Docker and Kubernetes reject what they do not know, as the real programs
//! do.

use super::machine::Machine;
use super::page::page_named;
use super::sandbox::{Sandbox, missing_sandbox};

/// Commands with a misspelled word, or on something that does not exist.
const WRONG: [&str; 21] = [
    "systemctl reload plugbord",
    "systemctl restrat plugboard",
    "systemctl start --now plugboard",
    "systemctl start plugboard",
    "journalctl -u plugboard",
    "journalctl --unit plugboard",
    "sudo -n true",
    "sudo false",
    "docker build --fil deploy/Containerfile --tag plugboard .",
    "docker build --file deploy/Dockerfile --tag plugboard .",
    "docker build --file deploy/Containerfile --tag plugboard docs",
    "docker run --detach --name other plugbord",
    "docker run --rm --memory 1g plugboard check",
    "docker run --rm --volume /nowhere:/plugins:ro plugboard check",
    "docker run --rm --restart never plugboard check",
    // Without a secret, the program exits with status 78.
    "docker run --detach --name other --volume /etc/plugboard:/plugins:ro plugboard",
    "docker exec other plugboard health",
    "docker stop other",
    "docker compose down",
    "kubectl apply --filename deploy/kubernets/",
    "kubectl rollout status deployment/plugboard",
];

#[test]
fn fakes_reject_unknown_commands_and_options() {
    if let Some(reason) = missing_sandbox() {
        tests::skip_or_fail_in_ci(&format!("cannot create a sandbox: {reason}"));
        return;
    }
    let mut script = Machine::Cluster.prepare(&page_named("deploy/README.md"));
    script += "mkdir /etc/plugboard
        docker build --file deploy/Containerfile --tag plugboard .
        docker run --rm plugboard --version\n";
    for command in WRONG {
        script += &format!("if {command} > /out/output 2>&1; then\n");
        script += &format!("    echo 'accepted: {command}'; exit 1\nfi\n");
        // An exception of Python is a bug of the fake.
        script += "if grep Traceback -A 20 /out/output; then exit 1; fi\n";
    }
    let sandbox = Sandbox::new(&script);
    let program = tests::program().display().to_string();
    let status = sandbox.run(&[("DIST_PROGRAM", program)]);
    assert!(status.success(), "{}", sandbox.output("sandbox.log"));
}
