#!/bin/sh
# The guest's first process in its own root file system: makes a system of it, runs the command, ends the machine.
# /run/vm is shared with the host: command (a script), output and status.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/hugepages /sys/fs/cgroup /tmp
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t hugetlbfs hugetlbfs /dev/hugepages
# What programs do with files they do on a disk's file system: a tmpfs has no O_DIRECT before Linux 6.6.
modprobe -a loop ext4
truncate -s 3G /run/disk && mke2fs -q -t ext4 /run/disk && mount -o loop /run/disk /tmp
chmod 1777 /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount -t securityfs securityfs /sys/kernel/security 2>/dev/null
# Where the kernel was told to have SELinux (security=selinux): its contexts come with a policy. It stays permissive.
if mount -t selinuxfs selinuxfs /sys/fs/selinux 2>/dev/null; then
    checkpolicy -M -U allow -o /run/policy /run/vm/policy.conf && cat /run/policy > /sys/fs/selinux/load
fi
ln -sf /proc/self/fd /dev/fd
echo 16 > /proc/sys/vm/nr_hugepages
ip link set lo up 2>/dev/null || busybox ip link set lo up
hostname guest 2>/dev/null || busybox hostname guest
# A session of its own, and none of the console's: what is run may make a terminal its own.
setsid sh /run/vm/command > /run/vm/output 2>&1 < /dev/null
echo $? > /run/vm/status
sync
echo o > /proc/sysrq-trigger
sleep 60
