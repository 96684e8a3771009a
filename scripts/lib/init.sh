#!/bin/busybox sh
# First program of the test guest: mounts, drivers for the devices that are there, then one of
#   stillpoint.run="COMMAND"   run it on the console and say how it ended; then the shell
#   (nothing)                  a shell on the console, with job control
# stillpoint.modules=a,b loads more drivers first ("none": not even those of the devices).
PATH=/sbin:/bin HOME=/ PS1='guest# '
export PATH HOME PS1
[ -x /bin/sh ] || /bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
read -r cmdline </proc/cmdline

# option NAME: its value, with or without quotes, in $value
option() {
  value=
  case " $cmdline " in
    *" $1=\""*) value=${cmdline#*"$1=\""} value=${value%%\"*} ;;
    *" $1="*) value=${cmdline#*"$1="} value=${value%% *} ;;
  esac
}

option stillpoint.modules
if [ "$value" != none ]; then
  modules=$(echo "$value" | tr , ' ')
  [ -d /proc/xen ] && modules="xenfs $modules"
  for device in /sys/bus/xen/devices/*; do
    case $device in
      */vbd-*) modules="$modules xen-blkfront ext4" ;;
      */vif-*) modules="$modules xen-netfront" ;;
    esac
  done
  for module in $modules; do modprobe -q "$module" || echo "init: no module $module"; done
fi
[ -d /proc/xen ] && mount -t xenfs xenfs /proc/xen

read -r tty </sys/class/tty/console/active
tty=/dev/${tty##* }
read -r uptime _ </proc/uptime
echo "GUEST-READY uptime=$uptime"
option stillpoint.run
if [ -n "$value" ]; then
  setsid sh -c "exec <$tty >$tty 2>&1; $value"
  echo "GUEST-RUN-ENDED status=$?"
fi
while :; do
  setsid sh -c "exec sh -i <$tty >$tty 2>&1"
  sleep 1
done
