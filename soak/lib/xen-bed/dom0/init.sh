#!/bin/busybox sh
# First program of the bed's dom0: mounts, drivers, Xen's daemons, a bridge, one agent for each channel, a shell on hvc0.
export PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/lib/xen-4.17/bin HOME=/root TERM=vt100 LANG=C
busybox=/bin/busybox
$busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ln -sfn /proc/self/fd /dev/fd
ln -sf fd/0 /dev/stdin
ln -sf fd/1 /dev/stdout
ln -sf fd/2 /dev/stderr
mkdir -p /dev/pts /dev/shm /run /tmp /var/lib/xen /root
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
ln -sfn /run /var/run
mkdir -p /run/xen /run/xenstored /run/lock /run/xen-hotplug
ln -sfn /run/lock /var/lock
while read -r module; do insmod "/modules/$module" || echo "dom0: no module $module"; done </modules/order
i=0
while [ ! -b /dev/vda ] && [ $i -lt 200 ]; do usleep 50000; i=$((i + 1)); done
mkdir -p /s
mount -t ext4 -o noatime /dev/vda /s || echo 'dom0: no scratch disk'
# What grows lies on the scratch disk, not in dom0's memory.
mkdir -p /s/.log/console /s/.agent /s/.tmp
ln -sfn /s/.log /var/log/xen
mount -t xenfs xenfs /proc/xen
ip link set lo up
ip link add xenbr0 type bridge
ip addr add 192.168.77.1/24 dev xenbr0
ip link set xenbr0 up
# Nothing of Xen's tools works without it, and they wait for it without end: its end is said on the console.
(
  oxenstored --no-fork --config-file /etc/xen/oxenstored.conf >/s/.log/xenstored.out 2>&1
  status=$?
  tail -n 3 /s/.log/xenstored.out >/dev/kmsg
  echo "BED-FAILED xenstored ended with status $status" >/dev/kmsg
) &
i=0
until xenstore-read -s / >/dev/null 2>&1 || [ $i -ge 200 ]; do usleep 50000; i=$((i + 1)); done
xen-init-dom0
xenconsoled --log=guest --pid-file=/run/xenconsoled.pid
for name in /sys/class/virtio-ports/*/name; do
  port=${name%/name}
  /bin/bash /sbin/agent "/dev/${port##*/}" "${port##*/}" </dev/null >/dev/null 2>&1 &
done
read -r uptime _ </proc/uptime
echo "BED-READY uptime=$uptime" >/dev/kmsg
while :; do
  setsid sh -c 'exec bash -i </dev/hvc0 >/dev/hvc0 2>&1'
  sleep 1
done
