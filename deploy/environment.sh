# Read by the scripts beside it, which set $repository: the Node.js that everything runs on, what it is started with, and the
# bundles that are run.
# shellcheck shell=sh

node_version=26.10.0

# A process of the fleet has little that lives long and much that dies young: a young generation of 2 MiB instead of 16 keeps it
# small; with 1 MiB a call would cost a tenth more. One thread beside the main one collects and compiles. The collector can be
# called, so that memory is given back when a process has become idle (shared/fleet/memory-keeper.ts); compiled code that has not run since the
# collection before goes with it, of which most is of the start.
# One malloc arena, since what several threads free would stay with each of them.
node_flags='--max-semi-space-size=2 --v8-pool-size=1 --expose-gc --bytecode-old-age=1'
export MALLOC_ARENA_MAX=1

# Prints the flags of one process besides. shared/fleet/startup.ts has the same, for processes that the gateway starts, and why.
flags_of() {
  case $1 in
    events) printf '%s' '--max-semi-space-size=8' ;;
    snapshots) printf '%s' '--no-turbofan' ;;
  esac
}

say() { printf 'flotilla: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Puts the Node.js that deploy/bootstrap.sh has brought before the machine's own.
use_node() {
  if [ -x "$repository/.node/node_modules/node/bin/node" ]; then
    PATH="$repository/.node/node_modules/node/bin:$PATH"
    export PATH
  fi
  command -v node >/dev/null 2>&1 || { say "no Node.js here; run npm start in $repository"; exit 127; }
}

bundles=$repository/.bundle
build_seconds_max=120

# Tells whether there are no bundles, or older ones than what they are made of. Those of a package come without that.
bundles_are_stale() {
  [ ! -e "$bundles/installed" ] || return 1
  [ ! -e "$bundles/current/built" ] || [ -n "$(cd "$repository" && find deploy services shared package.json package-lock.json \
    -newer "$bundles/current/built" -print -quit)" ]
}

# Makes the bundles when they are stale. Whoever wants to make them waits for whoever does; `current` is moved to a set that is
# whole and on disk. Sets that no process runs from are removed, those that a killed build has left among them.
bring_bundles() {
  bundles_are_stale || return 0
  mkdir -p "$bundles" || fail "the bundles are not up to date; run deploy/bootstrap.sh install as the owner of $repository"
  (
    flock -w "$build_seconds_max" 8 || fail "somebody else has been making bundles for $build_seconds_max s"
    bundles_are_stale || exit 0
    umask 022
    set_directory=$(mktemp -d "$bundles/XXXXXXXX") ||
      fail "the bundles are not up to date; run deploy/bootstrap.sh install as the owner of $repository"
    chmod 755 "$set_directory"
    # Its time is the one before the sources were read.
    touch "$set_directory/built"
    (cd "$repository" && node deploy/bundle.ts "$set_directory") || fail "the bundles could not be made"
    sync "$set_directory"/* "$set_directory"
    ln -sfn "${set_directory##*/}" "$bundles/next"
    mv -T "$bundles/next" "$bundles/current"
    for old in "$bundles"/*/; do
      old=${old%/}
      if [ ! -L "$old" ] && [ "$old" != "$set_directory" ]; then
        flock -n "$old" rm -rf "$old" || true
      fi
    done
  ) 8<"$bundles"
}

# run_process NAME [FLAGS]: becomes a process of the fleet, run from its bundle. With FLOTILLA_SOURCES=1 it runs from its sources.
run_process() {
  process=$1
  shift
  node_flags="$node_flags $(flags_of "$process")"
  if [ "${FLOTILLA_SOURCES:-}" = 1 ]; then
    # shellcheck disable=SC2086 # a list of words
    exec node $node_flags "$repository/services/$process/main.ts" "$@"
  fi
  bring_bundles
  # Under the lock that builders take, so that what `current` points to is not removed before it is held.
  exec 8<"$bundles"
  flock -s -w "$build_seconds_max" 8 || fail "somebody has been making bundles for $build_seconds_max s"
  set_directory=$(readlink -f "$bundles/current")
  exec 9<"$set_directory"
  flock -s 9
  exec 8<&-
  # Modules are found compiled from the second start on.
  NODE_COMPILE_CACHE=${NODE_COMPILE_CACHE-$set_directory/compiled}
  export NODE_COMPILE_CACHE
  # shellcheck disable=SC2086 # a list of words
  exec node $node_flags "$set_directory/services-$process-main.js" "$@"
}
