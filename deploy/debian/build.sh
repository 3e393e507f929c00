#!/bin/sh
# Builds the Debian package of Flotilla from this repository, which `deploy/bootstrap.sh install` has made ready:
#
#   deploy/debian/build.sh DIRECTORY [VERSION]     DIRECTORY/flotilla_VERSION_ARCH.deb; prints its path
#
# The package holds the bundles and the Node.js that they run on; nothing is fetched.
set -eu

output=${1:?usage: deploy/debian/build.sh DIRECTORY [VERSION]}
self=$(readlink -f -- "$0")
repository=${self%/deploy/*}
. "$repository/deploy/environment.sh"
use_node

version=${2:-$(node --print "require('$repository/package.json').version")}
architecture=$(dpkg --print-architecture)
case $architecture in
  amd64) platform=x64 ;;
  arm64) platform=arm64 ;;
  *) fail "there are no packages with native code for $architecture" ;;
esac

umask 022
mkdir -p "$output"
stage=$(mktemp -d "$output/stage.XXXXXX")
trap 'rm -rf "$stage"' EXIT INT TERM
tree=$stage/usr/lib/flotilla
mkdir -p "$tree/deploy" "$tree/node_modules" "$tree/.node/node_modules/node/bin" "$stage/usr/bin" "$stage/DEBIAN" \
  "$stage/usr/lib/sysusers.d" "$stage/lib/systemd/system" "$stage/usr/share/man/man8" "$stage/usr/share/doc/flotilla"

# A set of bundles of this very version: its files have other names than those of the version before, whose processes still run while the package
# is unpacked.
set_directory=$tree/.bundle/$version-$(date +%s)
mkdir -p "$set_directory"
touch "$set_directory/built" "$tree/.bundle/installed"
ln -s "${set_directory##*/}" "$tree/.bundle/current"
cd "$repository"
node deploy/bundle.ts "$set_directory" >&2

cp "$(command -v node)" "$tree/.node/node_modules/node/bin/node"
cp deploy/environment.sh deploy/flotilla deploy/flotilla-member deploy/flotilla.sysusers "$tree/deploy/"
node --eval '
  const fields = JSON.parse(require("fs").readFileSync("package.json", "utf8"));
  process.stdout.write(JSON.stringify({ name: fields.name, version: process.argv[1], type: fields.type }));
' "$version" >"$tree/package.json"
# Packages that are no part of the bundles: those with native code, and what is loaded by the function `require` when it is first needed.
for package in re2js better-sqlite3 koffi "@koromix/koffi-linux-$platform"; do
  mkdir -p "$tree/node_modules/$package"
  (cd "node_modules/$package" && find . -name '*.js' -o -name '*.cjs' -o -name package.json -o -name 'LICENSE*' \
    -o -name "linux-$platform.node" -o -path "*linux_$platform*" -type f) |
    grep -vE '^\./(deps|vendor|doc|build/(Release|esm))/|\.map$' |
    tar --create --directory "node_modules/$package" --files-from - | tar --extract --directory "$tree/node_modules/$package"
done

ln -s ../lib/flotilla/deploy/flotilla "$stage/usr/bin/flotilla"
cp deploy/flotilla.sysusers "$stage/usr/lib/sysusers.d/flotilla.conf"
sed 's|/opt/flotilla|/usr/lib/flotilla|g' deploy/systemd/flotilla.service | grep -v '^#' >"$stage/lib/systemd/system/flotilla.service"
node deploy/units.ts "$stage/lib/systemd/system" /usr/lib/flotilla
node deploy/man.ts | gzip -9n >"$stage/usr/share/man/man8/flotilla.8.gz"
cp README.md "$stage/usr/share/doc/flotilla/"
sed "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$(du -sk "$stage/usr" | cut -f1)/" deploy/debian/control >"$stage/DEBIAN/control"
for script in postinst prerm postrm; do
  cp "deploy/debian/$script" "$stage/DEBIAN/"
  chmod 755 "$stage/DEBIAN/$script"
done

package=$output/flotilla_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zzstd -z3 --build "$stage" "$package" >&2
printf '%s\n' "$package"
