#!/bin/busybox sh
# shellcheck shell=dash
# The first program in the VM, in the initramfs: the host's own / read-only over virtiofs, a tmpfs above it, and
# tests/vm/guest.sh as process 1 of that. The kernel's command line names it: petri.guest=, petri.job=.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev

for module in /modules/*.ko; do
	$bb insmod "$module" || echo "petri-vm: cannot load $module"
done

argument() {
	for word in $($bb cat /proc/cmdline); do
		case $word in
		"$1="*) echo "${word#*=}" ;;
		esac
	done
}

die() {
	echo "petri-vm: $*"
	$bb poweroff -f
}

$bb mount -t virtiofs -o ro host /lower || die "cannot mount the host's root"
$bb mount -t tmpfs -o mode=0755,size=75% tmpfs /rw || die "cannot mount a tmpfs"
$bb mkdir /rw/upper /rw/work
$bb mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work root /root || die "cannot mount the overlay"
$bb ip link set lo up

guest=$(argument petri.guest)
job=$(argument petri.job)
for dir in proc sys dev; do
	$bb mount -o move /$dir /root/$dir
done
exec $bb switch_root /root /bin/bash "$guest" "$job" </dev/console >/dev/console 2>&1
