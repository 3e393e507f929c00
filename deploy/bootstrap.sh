#!/bin/sh
# Brings what a command needs (Node.js, npm packages, programs of the distribution), saying so, then runs the command:
#
#   deploy/bootstrap.sh install         nothing more than what the daemon needs
#   deploy/bootstrap.sh start [FLAGS]   the daemon
#   deploy/bootstrap.sh demo            a tour on temporary directories
#   deploy/bootstrap.sh test [NAME...]  all tests, or those of the named stages
#   deploy/bootstrap.sh test-vm [FILE]  the snapshot drivers, or those tests, under a kernel of the distribution
#   deploy/bootstrap.sh bench [NAME...] measurements beside containerd
#   deploy/bootstrap.sh check           format, lint and types
#   deploy/bootstrap.sh gen             TypeScript from proto/
set -eu

command=${1:?usage: deploy/bootstrap.sh install|start|demo|test|test-vm|bench|check|gen}
shift
cd "$(dirname "$0")/.."
repository=$(pwd)
. deploy/environment.sh

# npm chooses packages by the Node.js that runs it, so the right one comes first.
bring_node() {
  use_node
  # One of that version that is in the PATH is not enough: units of systemd have another PATH.
  if [ ! -x .node/node_modules/node/bin/node ] || [ "$(node --version)" != "v$node_version" ]; then
    say "installing Node.js $node_version in .node"
    mkdir -p .node
    printf '{ "private": true }\n' >.node/package.json
    npm install --prefix .node --no-audit --no-fund --loglevel=error "node@$node_version" >&2
    use_node
  fi
}

bring_packages() {
  if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    say "installing npm packages"
    # Not `npm ci`: it refuses a lock file made where the registry lacks the packages of other platforms.
    npm install --no-save --no-audit --no-fund --loglevel=error >&2
    touch node_modules/.package-lock.json
  fi
}

# bring_programs PROGRAM=PACKAGE...: installs the packages whose programs are missing. A program is a name, or a path.
bring_programs() {
  missing=
  for pair in "$@"; do
    if ! PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%=*}" >/dev/null 2>&1; then
      missing="$missing ${pair#*=}"
    fi
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null 2>&1 || fail "please install:$missing"
  [ "$(id -u)" = 0 ] || fail "run as root, or install:$missing"
  say "installing$missing"
  # The packages' own services are not wanted: Flotilla starts these programs itself.
  policy=/usr/sbin/policy-rc.d
  made_policy=no
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made_policy=yes
    trap 'rm -f "$policy"' EXIT INT TERM
  fi
  apt-get update -qq >&2 || say "apt-get update failed, going on with the lists that are there"
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
  if [ "$made_policy" = yes ]; then
    rm -f "$policy"
    trap - EXIT INT TERM
  fi
}

bring_daemon_programs() {
  bring_programs setpriv=util-linux runc=runc containerd-shim-runc-v2=containerd nats-server=nats-server
}

bring_test_programs() {
  bring_daemon_programs
  bring_programs ctr=containerd docker-registry=docker-registry skopeo=skopeo umoci=umoci \
    busybox=busybox-static curl=curl setfattr=attr ip=iproute2 tar=tar xz=xz-utils python3=python3 openssl=openssl \
    mkfs.btrfs=btrfs-progs mkfs.ext4=e2fsprogs mkfs.xfs=xfsprogs mkfs.erofs=erofs-utils losetup=mount \
    iptables=iptables systemd-analyze=systemd dockerd=docker.io docker-compose=docker-compose /usr/lib/cni/bridge=containernetworking-plugins
}

bring_node
bring_packages
PATH="$repository/node_modules/.bin:$PATH:/usr/sbin:/sbin"
export PATH

case $command in
  install)
    bring_daemon_programs
    bring_bundles
    ;;
  start)
    bring_daemon_programs
    FLOTILLA_WELCOME=1 exec deploy/flotilla "$@"
    ;;
  demo)
    bring_test_programs
    exec node test/demo/main.ts "$@"
    ;;
  test)
    bring_test_programs
    bring_bundles
    exec node test/main.ts "$@"
    ;;
  test-vm)
    bring_test_programs
    # Not brought: a kernel is nothing to install unasked. The tests are skipped without one.
    exec node test/vm/main.ts "$@"
    ;;
  bench)
    bring_test_programs
    exec node test/bench/main.ts "$@"
    ;;
  check)
    exec node test/main.ts tidy
    ;;
  gen)
    buf generate proto
    node deploy/units.ts
    exec node deploy/settings.ts
    ;;
  *)
    fail "unknown command $command"
    ;;
esac
