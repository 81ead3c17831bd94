#!/usr/bin/env bash
# Runs a script in a private copy-on-write view of this machine's files.
#
#   sandbox.sh REPOSITORY AUTHORING OUT
#
# It must start in mount, network and process namespaces of its own. The script is OUT/script.
# All writes stay in memory, except those below OUT (`/out` for the script) and AUTHORING, the
# build directory of plugin authors. The network is a loopback interface. The end of the
# script ends all of its processes.
set -euo pipefail
repository=$1 authoring=$2 out=$3

memory=$out/memory
mkdir -p "$memory" "$out/files"
mount -t tmpfs tmpfs "$memory"
root=$memory/root
mkdir "$root"

# Mounts a copy-on-write view of a directory at the same path below the new root.
layers=0
layer() {
    layers=$((layers + 1))
    mkdir -p "$memory/upper$layers" "$memory/work$layers" "$root$1"
    mount -t overlay overlay "$root$1" \
        -o "lowerdir=$1,upperdir=$memory/upper$layers,workdir=$memory/work$layers"
}

layer /
# A view contains one file system, so these directories can need their own.
for path in "$repository" "$CARGO_HOME" "$RUSTUP_HOME"; do
    if [ -d "$path" ] && [ "$(stat -c %d "$path")" != "$(stat -c %d /)" ]; then
        layer "$path"
    fi
done
for path in dev proc sys; do
    mount --rbind "/$path" "$root/$path"
done
# Without the sockets of the machine's own services, and without its temporary files. What the
# commands need can be among them.
needed=("$repository" "$CARGO_HOME" "$RUSTUP_HOME")
for nth in "${!needed[@]}"; do
    mkdir -p "$memory/needed$nth" "$root${needed[$nth]}"
    mount --bind "$root${needed[$nth]}" "$memory/needed$nth"
done
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
for nth in "${!needed[@]}"; do
    mkdir -p "$root${needed[$nth]}"
    mount --bind "$memory/needed$nth" "$root${needed[$nth]}"
done
mkdir -p "$root/out" "$root$authoring" "$root/home/author/plugboard" "$root/old"
mount --bind "$out/files" "$root/out"
mount --bind "$authoring" "$root$authoring"
mount --bind "$root$repository" "$root/home/author/plugboard"
# The machine that the documents describe has no files of Plugboard yet.
rm -rf "$root/etc/plugboard" "$root/var/lib/plugboard" "$root/var/lib/private" "$root/backup" \
    "$root/usr/local/bin/plugboard" "$root/etc/systemd/system/plugboard.service"*
echo '127.0.0.1 localhost plugboard.example.com' > "$root/etc/hosts"
ip link set lo up

cd "$root"
pivot_root . old
umount --lazy /old
cd /
status=0
bash /out/script || status=$?
# Below sudo, the built files belong to root.
if [ "$(stat -c %u /out)" != 0 ]; then
    chown -R --reference /out "$authoring"
fi
exit $status
