#!/bin/sh
# SPDX-License-Identifier: MIT
# A node's network is cut under survive.sbatch, on a Slurm whose nodes have networks of their own: those that are left name its host, a spare node
# takes its place, and what was cut off ends by itself.
namespaces='unshare -nmu'
# shellcheck disable=SC2086
[ -n "${MOEKIT_WIRED:-}" ] || ! $namespaces ip link add hub type bridge 2>/dev/null || MOEKIT_WIRED=yes exec $namespaces sh "$0"
. "$(dirname "$0")/../lib/tap.sh"
need_for_all namespaces test -n "${MOEKIT_WIRED:-}"
cluster=wire
. "$top/t/lib/slurm.sh"
. "$top/t/lib/survive.sh"
export OMPI_MCA_btl_tcp_if_include=eth0
sed 's/"ranks_per_node": 4/"ranks_per_node": 2/' nodes.json >pairs.json && mv pairs.json nodes.json
make_plan three 6 --tp 2 --ep 3 --etp 2 --global-batch 24
survive --ntasks-per-node=2 "$scripts/survive.sbatch" three text.txt 60 cut --lr 1e-3 --save-every 5 --timeout 20
until_so 120 stepped cut/log 12
is "$(jq -r 'select(.kind == "start") | .hosts' cut/log)" 3 'six ranks train on three nodes'
at=$(epoch)
ip link set n3 down
until_so 60 grep -q '"kind":"fault"' cut/log
ok $? "the network of n3 is cut: on record $(echo "$(epoch) $at" | awk '{ printf "%.0f", $1 - $2 }') s later"
is "$(jq -r 'select(.kind == "fault" and .reported_by < 4) | .host' cut/log | sort -u)" n3 'those that are left name its host'
until_so 200 first_step cut 2
ok $? "training again $(echo "$(epoch) $at" | awk '{ printf "%.0f", $1 - $2 }') s after the cut"
is "$(cut -d' ' -f1 cut/places | uniq | tr '\n' ' ')" 'n1 n2 n4 ' 'the spare node has taken its place'
alone_ended() { ! node_pids n3 | while read -r p; do cat "/proc/$p/comm"; done 2>/dev/null | grep -q moe-train; }
until_so 60 alone_ended
ok $? 'the ranks that were cut off have ended'
finish 'the job goes on to its end' 'COMPLETED 0:0'
none "$(none_lost cut/log)" 'from the last whole checkpoint'
ip link set n3 up
until_so 90 sh -c 'sinfo -h -n n3 -o %t | grep -qx idle'
ok $? 'the network is back, and so is the node'
slurm_ends
done_testing
