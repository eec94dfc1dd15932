# shellcheck shell=bash
# Sourced by scripts that run kmsfs below a directory of their own: finds what
# is left there. Every process of such a run carries the directory's path on
# its command line or works below it.

# mounts_below DIR lists what is mounted below DIR, the deepest first.
mounts_below() {
	awk -v dir="$1/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}

# processes_below DIR lists the process ids that belong to DIR, but for this
# script and its ancestors, which may name it as well.
processes_below() {
	local proc pid
	for proc in /proc/[0-9]*; do
		pid=${proc#/proc/}
		case " $$ $BASHPID $PPID " in *" $pid "*) continue ;; esac
		if { tr '\0' '\n' <"$proc/cmdline" | grep -qF -- "$1/"; } 2>/dev/null ||
			[[ $(readlink "$proc/cwd" 2>/dev/null) == "$1"/* ]]; then
			echo "$pid"
		fi
	done
}

# unmount_below DIR detaches what is mounted below DIR, whatever state it is in.
unmount_below() {
	local mnt
	while read -r mnt; do
		if [ "$(id -u)" -eq 0 ]; then
			umount -l "$mnt"
		else
			fusermount3 -u -z "$mnt"
		fi
	done < <(mounts_below "$1")
}

# end_processes_below DIR asks them to end, then makes them.
end_processes_below() {
	local pids signal
	for signal in TERM KILL; do
		mapfile -t pids < <(processes_below "$1")
		[ ${#pids[@]} -gt 0 ] || return 0
		kill -s "$signal" "${pids[@]}" 2>/dev/null || true
		await_no_processes_below "$1" 5 || true
	done
}

# await_no_processes_below DIR SECONDS fails when some still live then.
await_no_processes_below() {
	local end=$((SECONDS + $2))
	while [ -n "$(processes_below "$1")" ]; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}
