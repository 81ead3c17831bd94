//! `deploy/Containerfile` copies the folders of all workspace members.

use std::fs;

use super::page::root;

#[test]
fn containerfile_copies_all_workspace_members() {
    let read = |name| fs::read_to_string(root().join(name)).unwrap();
    let (manifest, containerfile) = (read("Cargo.toml"), read("deploy/Containerfile"));
    let (_, members) = manifest.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let mut copied = 0;
    for member in members.split('"').skip(1).step_by(2) {
        let folder = member.split('/').next().unwrap();
        let copy = format!("\nCOPY {folder} {folder}\n");
        assert!(containerfile.contains(&copy), "deploy/Containerfile does not copy {folder}");
        copied += 1;
    }
    assert!(copied > 5, "only {copied} members");
}
