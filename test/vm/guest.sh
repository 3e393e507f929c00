#!/bin/sh
# The first process of the virtual machine that main.ts boots. The root is the files of the machine outside, read-only; over them come changes of
# the guest's own, on its disk. Runs /job/run, writes how it ended to /job/status and powers off.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
trap 'echo o >/proc/sysrq-trigger; sleep 60' EXIT

mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
for module in virtio_blk ext4 overlay xfs btrfs erofs loop dm_thin_pool dm_verity quota_v2; do
  modprobe "$module" || echo "no module $module"
done
mkfs.ext4 -q -O verity,quota,project /dev/vda
mount /dev/vda /mnt
mkdir /mnt/upper /mnt/work /mnt/root /mnt/tmp
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
cd /mnt/root
mkdir -p job
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t devtmpfs devtmpfs dev
mkdir -p dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
# An overlay is no place for the upper directory of another.
mount --bind /mnt/tmp tmp
chmod 1777 tmp
mount -t 9p -o trans=virtio,version=9p2000.L job job
ip link set lo up
# In a mount namespace of its own as the root, which runc insists on.
mkdir -p outside
cd ..
exec unshare --mount --propagation private sh -eu -c '
cd root
pivot_root . outside
umount -l /outside
# Makes the links in /dev/mapper.
/lib/systemd/systemd-udevd --daemon
status=0
sh /job/run </dev/null || status=$?
echo "$status" >/job/status
sync
echo o >/proc/sysrq-trigger
sleep 60
' guest
