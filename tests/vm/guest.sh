#!/bin/bash
# Process 1 of the test VM, in the host's root under a tmpfs overlay: makes the first-class host of it (cgroup v2
# alone, XFS with project quotas from its first mount, swap), runs the job, and says how it ended on the first
# virtio port: "VM-EXIT rc=N". The job is a bash file of the run's folder on the host: guest.sh JOBFILE.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=linux

OUT=$(echo /dev/vport*p1)    # the job's output and the marker
REPORT=$(echo /dev/vport*p2) # ctest's JUnit file

# finish RC: the marker is the last thing to be said; who started the machine then ends it.
finish() {
	local bytes=0
	if [ -n "${JUNIT:-}" ] && [ -e "$JUNIT" ]; then
		bytes=$(stat -c %s "$JUNIT")
		cat "$JUNIT" >"$REPORT"
	fi
	printf '\nVM-EXIT rc=%s report=%s\n' "$1" "$bytes" >"$OUT"
	while :; do sleep 60; done # the kernel panics when process 1 ends
}

die() {
	printf 'petri-vm: %s\n' "$*" >"$OUT"
	finish 125
}

# shellcheck source=/dev/null
. "$1" || die "cannot read $1" # sets REPO, KIND, COMMAND and what else the job wants exported

mount_system() {
	mkdir -p /dev/pts /dev/shm /dev/mqueue
	mount -t devpts -o mode=0620,ptmxmode=0666 devpts /dev/pts
	mount -t tmpfs -o mode=1777 tmpfs /dev/shm
	mount -t mqueue mqueue /dev/mqueue
	mount -t tmpfs -o mode=0755 tmpfs /run
	mkdir -p /run/lock
	ln -sfn /proc/self/fd /dev/fd
	ln -sfn fd/0 /dev/stdin
	ln -sfn fd/1 /dev/stdout
	ln -sfn fd/2 /dev/stderr
	mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup || die "cannot mount cgroup2"
	ulimit -n 65536
	hostname petri-vm
}

# The kernel's modules, so that modprobe and the kernel's own requests find them.
offer_modules() {
	mkdir -p /lib/modules
	ln -sfn "$MODULES" "/lib/modules/$(uname -r)"
	modprobe loop || die "cannot load the module loop"
}

# mount(8), XFS: project quota must be asked for at the first mount; a remount does not turn it on.
mount_scratch() {
	mkdir -p /scratch /var/lib/petri
	mount -t xfs -o prjquota /dev/vda /scratch || die "cannot mount the scratch disk as XFS with prjquota"
	mkdir -m 0755 /scratch/repo /scratch/state
	mkdir -m 1777 /scratch/tmp /scratch/var-tmp
	mount --bind /scratch/state /var/lib/petri
	# A repository beneath /tmp or /var/tmp stays visible under its own path.
	mount --bind "$REPO" /scratch/repo
	mount --bind /scratch/tmp /tmp
	mount --bind /scratch/var-tmp /var/tmp
	if [ ! -e "$REPO" ]; then
		mkdir -p "$REPO"
		mount --bind /scratch/repo "$REPO"
	fi
	umount -l /scratch/repo
	rmdir /scratch/repo
	# The host made it for pages of its own size.
	swapon /dev/vdb 2>/dev/null || { mkswap /dev/vdb >/dev/null && swapon /dev/vdb; } || die "cannot use the swap disk"
}

run_shell() {
	local terminal=/dev/hvc0
	stty rows "${ROWS:-24}" cols "${COLUMNS:-80}" <"$terminal"
	export TERM=${GUEST_TERM:-linux}
	cat >"$terminal" <<-TEXT
		The test VM, kernel $(uname -r). The host's files are here, and what you write is lost when you leave
		with exit or ^D. The XFS disk with project quotas is /scratch; petri's state, /tmp and /var/tmp are on it.
	TEXT
	setsid -c bash -i <>"$terminal" >&0 2>&1
}

main() {
	mount_system
	offer_modules
	mount_scratch
	cd "$REPO" || die "no $REPO in the VM"
	printf '==> VM: kernel %s, %s CPUs, cgroup v2 alone, XFS with prjquota on /scratch, up %s s\n' "$(uname -r)" \
		"$(nproc)" "$(cut -d' ' -f1 /proc/uptime)" >"$OUT"
	local rc=0
	if [ "$KIND" = shell ]; then
		run_shell || rc=$?
	else
		"${COMMAND[@]}" </dev/null 2>&1 | cat >"$OUT"
		rc=${PIPESTATUS[0]}
	fi
	finish "$rc"
}

main
