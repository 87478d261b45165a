#!/bin/bash
# guard.sh run NSPAWN-ARGUMENT… | guard.sh clean: owner of one container.
#
# Lives in a session and a mount namespace of its own, so that no Ctrl-C reaches it and its mounts end with
# it. Standard input is the owner's hand: at its end, for whatever reason, the container is shut down
# and every trace removed; a line "kill" on it asks not to wait for order. BED_DIR is a directory made for this container, BED_NAME its machine name,
# BED_TREE the read-only root, BED_DISK=1 keeps what is written on disk and not in memory. Descriptor 3
# holds a lock as long as this script lives.
set -u
nspawn=

if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    groups=("/sys/fs/cgroup/$BED_NAME")
else
    # The legacy and the hybrid layout: the trees in which systemd sorts processes.
    groups=()
    for tree in systemd unified; do
        [ ! -d "/sys/fs/cgroup/$tree" ] || groups+=("/sys/fs/cgroup/$tree/$BED_NAME")
    done
fi

clean() {
    local group try
    for group in "${groups[@]}"; do
        for try in {1..100}; do
            [ -d "$group" ] || break
            find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null | xargs -r kill -KILL 2>/dev/null
            find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
            [ ! -d "$group" ] || sleep 0.05
        done
    done
    rm -rf "$BED_DIR"
    rmdir /run/systemd/nspawn 2>/dev/null
    [ ! -e "$BED_DIR" ]
}

if [ "$1" = clean ]; then
    clean
    exit
fi
shift

# shutdown: orderly, then by force.
signal=TERM
shutdown() {
    if [ -n "$nspawn" ]; then
        kill -"$signal" "$nspawn" 2>/dev/null
        { sleep "10" && kill -KILL "$nspawn"; } 2>/dev/null 3>&- &
        local timer=$!
        wait "$nspawn"
        kill "$timer" 2>/dev/null
    fi
    umount -l "$BED_DIR/root" "$BED_DIR/memory" 2>/dev/null
    clean
}
trap shutdown EXIT
trap exit TERM INT HUP

set -e
# Its locks and propagation directories must not outlive the container.
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=755 bed /run/systemd/nspawn
base=$BED_DIR
if [ "${BED_DISK:-}" != 1 ]; then
    base=$BED_DIR/memory
    mkdir "$base"
    mount -t tmpfs -o mode=755 bed "$base"
fi
mkdir "$base/upper" "$base/work" "$BED_DIR/root"
mount -t overlay -o "lowerdir=$BED_TREE,upperdir=$base/upper,workdir=$base/work" bed "$BED_DIR/root"
if [ -d "$BED_DIR/seed" ]; then
    cp -a "$BED_DIR/seed/." "$BED_DIR/root/"
fi
# An own cgroup, or all containers would share that of the caller.
mkdir "${groups[@]}"
set +e

{ read -r word && [ "$word" = kill ]; } <&0 3>&- &
hand=$!
while :; do
    (
        for group in "${groups[@]}"; do
            echo "$BASHPID" >"$group/cgroup.procs"
        done
        exec setpriv --pdeathsig TERM systemd-nspawn --directory="$BED_DIR/root" --machine="$BED_NAME" "$@" 3>&-
    ) </dev/null &
    nspawn=$!
    wait -n -p ended "$nspawn" "$hand"
    status=$?
    if [ "$ended" = "$hand" ]; then
        [ "$status" != 0 ] || signal=KILL
        break
    fi
    nspawn=
    # 133: the container asks to be started again; the file: its owner has cut its power.
    if [ "$status" != 133 ] && [ ! -e "$BED_DIR/again" ]; then
        echo "guard: systemd-nspawn ended with status $status"
        kill "$hand"
        break
    fi
    rm -f "$BED_DIR/again"
done
exit
