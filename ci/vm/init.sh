#!/bin/busybox sh
# The first process of a guest, out of its initramfs: makes the root file system and goes there.
#
# layers=TAG:PLACE,...  directories of the host, shared by 9p, read-only; what is written goes to a tmpfs above each
# probe                 end at once: this machine boots
set -e
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null || true
layers=$(sed 's/.*layers=\([^ ]*\).*/\1/' /proc/cmdline | tr , ' ')
if grep -q 'probe' /proc/cmdline; then
    echo "guest is up"
    poweroff -f
fi
while read -r module; do
    insmod "/modules/$module" || echo "guest: module $module: failed"
done < /modules/order

share="-t 9p -o trans=virtio,version=9p2000.L,msize=262144"
for layer in $layers; do
    tag=${layer%%:*}
    place=${layer#*:}
    mkdir -p "/layers/$tag"
    mount -t tmpfs -o mode=755 tmpfs "/layers/$tag"
    mkdir "/layers/$tag/host" "/layers/$tag/upper" "/layers/$tag/work"
    mount $share,ro,cache=loose "$tag" "/layers/$tag/host"
    mkdir -p "/root$place"
    mount -t overlay -o "lowerdir=/layers/$tag/host,upperdir=/layers/$tag/upper,workdir=/layers/$tag/work" \
        "$tag" "/root$place"
done
mkdir -p /root/run /root/proc /root/sys /root/dev "/root/usr/lib/modules/$(uname -r)"
mount -t tmpfs -o mode=755 tmpfs /root/run
mkdir /root/run/vm
mount $share,cache=none results /root/run/vm
mount $share,ro,cache=loose modules "/root/usr/lib/modules/$(uname -r)"
umount /sys /dev /proc
exec switch_root /root /bin/sh /run/vm/guest.sh
