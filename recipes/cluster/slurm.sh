#!/bin/sh
# A Slurm cluster of one node on this machine, as root, for trying job files; it ends with the script:
#   sh recipes/cluster/slurm.sh sbatch --wait recipes/cluster/train.sbatch experiment=demo
# Debian: apt-get install slurm-wlm munge. It keeps no accounting, so sacct has nothing to say.
set -eu
[ $# -gt 0 ] || { sed -n '2,4s/^# //p' "$0"; exit 2; }
for program in munged slurmctld slurmd sbatch; do
	command -v $program > /dev/null || { echo "error: no $program; run: apt-get install slurm-wlm munge" >&2; exit 1; }
done
place=$(mktemp -d /tmp/slurm.XXXXXX)
chmod 755 "$place"
export SLURM_CONF="$place/slurm.conf"
host=$(hostname -s)
cat > "$SLURM_CONF" <<END
ClusterName=here
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$place/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=requeue_delay=1
KillWait=30
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=here Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
mkdir "$place/state" "$place/spool" "$place/munge"
dd if=/dev/urandom of="$place/munge/key" bs=1024 count=1 2> /dev/null
chmod -R go= "$place/munge"
end() {
	scancel --me 2> /dev/null || true
	for daemon in slurmd slurmctld munge/munged; do
		[ ! -s "$place/$daemon.pid" ] || kill "$(cat "$place/$daemon.pid")" 2> /dev/null || true
	done
	[ -n "${KEEP-}" ] || { sleep 2; rm -rf "$place"; }
}
trap end EXIT
trap 'exit 1' HUP INT TERM
munged --force --key-file="$place/munge/key" --socket="$place/munge.socket" --pid-file="$place/munge/munged.pid" \
	--log-file="$place/munge/log" --seed-file="$place/munge/seed"
slurmctld
slurmd
for _ in 1 2 3 4 5 6 7 8 9 10; do
	[ "$(sinfo --noheader --format=%t 2> /dev/null)" = idle ] && break
	sleep 1
done
"$@"
