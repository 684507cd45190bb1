#!/bin/sh
# A node of a cluster in the network namespace that this is started in: cgroups, mounts and processes of its own, containerd and a kubelet.
#   node.sh run FOLDER GROUP KUBELET-ARGUMENTS...   FOLDER: node.py's; GROUP: name of its cgroups.  All of it ends with its first process.
#   node.sh sweep GROUP                             removes cgroups of that name, or whose names begin with it and a hyphen
# In a mount namespace of its own: unshare --mount --propagation private sh node.sh ...
set -eu
ROOT=/sys/fs/cgroup

# Mounts every hierarchy that this process is in; the machine's own mounts of them do not count.
mount_cgroups() {
	case $OWN in
	0::*) mount -t cgroup2 cgroup2 $ROOT; return ;;
	esac
	mount -t tmpfs -o mode=755 cgroups $ROOT
	echo "$OWN" | while IFS=: read -r _ controllers _; do
		case $controllers in
		'') mkdir $ROOT/unified; mount -t cgroup2 cgroup2 $ROOT/unified ;;
		name=*) mkdir "$ROOT/${controllers#name=}"; mount -t cgroup -o "none,$controllers" cgroup "$ROOT/${controllers#name=}" ;;
		*) mkdir "$ROOT/$controllers"; mount -t cgroup -o "$controllers" cgroup "$ROOT/$controllers" ;;
		esac
	done
}

# Moves this process into a group of that name in every hierarchy: below its own one, or at the top where there is cgroup v2 alone.
enter_cgroups() {
	case $OWN in
	0::*) mkdir -p "$ROOT/$1"; delegate $ROOT; echo $$ >"$ROOT/$1/cgroup.procs"; return ;;
	esac
	echo "$OWN" | while IFS=: read -r _ controllers path; do
		parent=$ROOT/${controllers:-unified}
		case $controllers in name=*) parent=$ROOT/${controllers#name=} ;; esac
		parent=$parent${path%/}
		mkdir -p "$parent/$1"
		if [ "$controllers" = cpuset ]; then
			for file in cpuset.cpus cpuset.mems; do cat "$parent/$file" >"$parent/$1/$file"; done
		fi
		echo $$ >"$parent/$1/cgroup.procs"
	done
}

# cgroup v2: lets groups below one have its controllers.
delegate() {
	for controller in $(cat "$1/cgroup.controllers"); do echo "+$controller"; done >"$1/cgroup.subtree_control"
}

# Shows the kubelet a kernel parameter as it wants it, and leaves the machine's alone.
tune() {
	file=$FOLDER/tunables/$(echo "$1" | tr / .)
	echo "$2" >"$file"
	mount --bind "$file" "/proc/sys/$1"
}

mount_all() {
	mount --make-rshared /
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t bpf bpf /sys/fs/bpf
	mount_cgroups
	case $OWN in
	0::*) mkdir -p $ROOT/init; echo 1 >$ROOT/init/cgroup.procs; delegate $ROOT ;;
	esac
	mount -t tmpfs -o mode=755 run /run
	mkdir -p /run/lock /run/netns "$FOLDER/var" "$FOLDER/var.work" "$FOLDER/tunables"
	# The machine's with the node's own changes: nothing is written to the machine's.
	mount -t overlay -o "lowerdir=/var,upperdir=$FOLDER/var,workdir=$FOLDER/var.work" var /var
	mount --bind "$FOLDER/resolv.conf" /etc/resolv.conf
	tune vm/overcommit_memory 1
	tune vm/panic_on_oom 0
	tune kernel/panic 10
	tune kernel/panic_on_oops 1
	tune kernel/keys/root_maxkeys 1000000
	tune kernel/keys/root_maxbytes 25000000
}

case $1 in
run)
	FOLDER=$2 GROUP=$3 OWN=$(cat /proc/self/cgroup) # read at once: it changes with every group that is entered
	shift 3
	mount_cgroups
	enter_cgroups "$GROUP"
	exec unshare --mount --pid --fork --kill-child --uts --ipc --cgroup sh "$0" inside "$FOLDER" "$@"
	;;
inside)
	FOLDER=$2 OWN=$(cat /proc/self/cgroup)
	shift 2
	hostname "$(basename "$FOLDER")"
	mount_all
	containerd --config "$FOLDER/containerd.toml" >>"$FOLDER/containerd.log" 2>&1 &
	until [ -S /run/containerd/containerd.sock ]; do
		kill -0 $! || exit 1
		sleep 0.05
	done
	cluster kubelet "$@" >>"$FOLDER/kubelet.log" 2>&1 &
	while :; do # as the first process it is the parent of all whose own has ended
		wait
		sleep 1
	done
	;;
sweep)
	OWN=$(cat /proc/self/cgroup)
	mount_cgroups
	find $ROOT -depth -type d \( -path "*/$2" -o -path "*/$2/*" -o -path "*/$2-*" \) -exec rmdir {} + 2>/dev/null || true
	;;
esac
