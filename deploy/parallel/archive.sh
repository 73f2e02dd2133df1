#!/bin/sh
# An archive in SHARDS shards by GNU parallel:   deploy/parallel/archive.sh FILMS PARTS [OPTIONS OF parallel]
# One machine needs no shards, as a shard reads a film on each core. Several, which see the same folders:
#   deploy/parallel/archive.sh /films /parts --sshlogin one,two,three --jobs 1
# When all have ended:   pneumo merge PARTS all.csv --figure all.png
set -eu
shards=${SHARDS:-100} films=$1 parts=$2
shift 2
seq 0 $((shards - 1)) | parallel --quote --retries 3 --halt soon,fail=10% "$@" \
  "${PNEUMO:-pneumo}" predict "$films" --parts "$parts" --shard "{}/$shards"
