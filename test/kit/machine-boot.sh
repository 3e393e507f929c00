#!/bin/sh
# machine-boot.sh DIRECTORY CGROUP: becomes systemd in a machine that has the files of this one, changes of its own, and nothing of its mounts but the
# cgroups below CGROUP. To be called in namespaces of its own for mounts, processes, names and IPC; takes one for cgroups itself.
set -eu

directory=$1
cgroup=$2

# A hierarchy of version 1 for each controller, or one of version 2 for all, or both.
hierarchies=$(awk '$3 == "cgroup" || $3 == "cgroup2" { print $3, $2, $4 }' /proc/self/mounts)
echo "$hierarchies" | while read -r type path _; do
  mkdir -p "$path/$cgroup"
  if [ "$type" = cgroup ] && [ -e "$path/cpuset.cpus" ]; then
    cat "$path/cpuset.cpus" >"$path/$cgroup/cpuset.cpus"
    cat "$path/cpuset.mems" >"$path/$cgroup/cpuset.mems"
  fi
done
for path in $(echo "$hierarchies" | awk '{ print $2 }'); do
  echo $$ >"$path/$cgroup/cgroup.procs"
done

exec unshare --cgroup sh -eu -c '
directory=$1
hierarchies=$2
mount -t tmpfs -o mode=755 tmpfs "$directory"
mkdir "$directory/upper" "$directory/work" "$directory/root" "$directory/containerd"
mount -t overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" overlay "$directory/root"
cd "$directory/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty fuse; do
  if [ -e "/dev/$node" ]; then
    : >"dev/$node"
    mount --bind "/dev/$node" "dev/$node"
  fi
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=755 tmpfs run
# An overlay is no place for the upper directory of another.
mkdir -p var/lib/containerd
mount --bind "$directory/containerd" var/lib/containerd
chmod 700 var/lib/containerd
echo "$hierarchies" | while read -r type path options; do
  case $path in
    /sys/fs/cgroup) ;;
    *) mountpoint -q sys/fs/cgroup || mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup ;;
  esac
  mkdir -p ".$path"
  if [ "$type" = cgroup2 ]; then
    mount -t cgroup2 cgroup2 ".$path"
  else
    options=$(echo "$options" | tr , "\n" | grep -vxE "rw|ro|nosuid|nodev|noexec|relatime|xattr|release_agent=.*|clone_children" | paste -sd, -)
    case $options in name=*) options=none,$options ;; esac
    mount -t cgroup -o "$options" cgroup ".$path"
  fi
done
: >etc/machine-id
rm -f etc/systemd/system/*.wants/* etc/fstab
# It would clear /tmp, where the files of a test are.
ln -sf /dev/null etc/systemd/system/systemd-tmpfiles-setup.service
cat >etc/systemd/system/machine.target <<U
[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
U
exec chroot . /usr/bin/env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=machine.target
' machine "$directory" "$hierarchies"
