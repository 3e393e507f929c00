#!/bin/sh
# Makes the image of deploy/docker-compose.yaml from this repository and from programs of this machine; nothing is fetched:
#
#   deploy/compose/build-image.sh FILE     an archive for `docker load` and `ctr images import`, of the image flotilla:dev
set -eu

file=$(realpath -m -- "${1:?usage: deploy/compose/build-image.sh FILE}")
self=$(readlink -f -- "$0")
repository=${self%/deploy/*}
. "$repository/deploy/environment.sh"

PATH="$PATH:/usr/sbin:/sbin"
stage=$(mktemp -d "$(dirname "$file")/image.XXXXXX")
trap 'rm -rf "$stage"' EXIT INT TERM
umask 022
tree=$stage/tree
mkdir -p "$tree/bin" "$tree/usr/bin" "$tree/etc" "$tree/tmp" "$tree/root" "$tree/proc" "$tree/sys" "$tree/dev"
dpkg-deb --extract "$("$repository/deploy/debian/build.sh" "$stage")" "$tree"

# A program with the libraries that it is linked to.
bring() {
  cp --dereference "$1" "$tree/usr/bin/"
  ldd "$1" 2>/dev/null | grep -oE '/[^ ]+' | while read -r library; do
    mkdir -p "$tree$(dirname "$library")"
    cp --dereference --no-clobber "$library" "$tree$library"
  done
}
for program in nats-server setpriv flock runc ctr containerd-shim-runc-v2; do
  bring "$(command -v "$program")" || fail "there is no $program here"
done
bring "$tree/usr/lib/flotilla/.node/node_modules/node/bin/node"
rm "$tree/usr/bin/node"
# Names of users and hosts are looked up by these.
for library in /lib/*-linux-gnu/libnss_files.so.2 /lib/*-linux-gnu/libnss_dns.so.2; do
  [ ! -e "$library" ] || cp --dereference --parents "$library" "$tree"
done
cp "$(command -v busybox)" "$tree/bin/busybox"
for applet in sh readlink dirname find sed cat ls mkdir chmod chown sleep env; do
  ln -s busybox "$tree/bin/$applet"
done

printf 'root:x:0:0:root:/root:/bin/sh\n' >"$tree/etc/passwd"
printf 'root:x:0:\nflotilla:x:900:\n' >"$tree/etc/group"
id=901
root=$tree/var/lib/flotilla
mkdir -p "$root" "$tree/run/flotilla/clients" "$root/io.containerd.snapshotter.v1.overlayfs" "$root/io.containerd.grpc.v1.introspection"
chmod 711 "$tree/run/flotilla"
# own NAME DIRECTORY: a process with a user of its own, and where it keeps things.
own() {
  printf 'flotilla-%s:x:%s:900::/:/bin/false\n' "$1" "$id" >>"$tree/etc/passwd"
  mkdir -p "$tree/run/flotilla/$1" "$root/$2"
  chmod 710 "$tree/run/flotilla/$1" "$root/$2"
  chown "$id:900" "$tree/run/flotilla/$1" "$root/$2"
  id=$((id + 1))
}
own content io.containerd.content.v1.content
own events io.flotilla.events.v1.nats
own metadata io.containerd.metadata.v1.bolt
own transfer tmp-transfer
rmdir "$root/tmp-transfer"
for name in gateway snapshots tasks; do
  mkdir -p "$tree/run/flotilla/$name"
  chmod 710 "$tree/run/flotilla/$name"
  chgrp 900 "$tree/run/flotilla/$name"
done
chgrp 900 "$root"
chmod 710 "$root"

cd "$stage"
tar --create --file layer.tar --numeric-owner --directory tree .
digest=$(sha256sum layer.tar | cut -d' ' -f1)
printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$(dpkg --print-architecture)" "$digest" >config.json
printf '[{"Config":"config.json","RepoTags":["docker.io/library/flotilla:dev"],"Layers":["layer.tar"]}]' >manifest.json
tar --create --file "$file" manifest.json config.json layer.tar
