#!/usr/bin/env bash
# The mini scale, from whatever an earlier run has finished: run_mini.sh TARGET [KEY=VALUE ...], the
# latter of the configuration. Prints the tables, and the ledger of claims where there is one.
set -euo pipefail

mkdir -p work/mini
exec 9> work/mini/.running
if ! flock --nonblock 9; then
    echo "another run is at work here: waiting for it" >&2
    flock 9
fi
# --nolock: the lock above is given up when a run is killed, Snakemake's own is not
target=$1
shift
# the longest chain of jobs first: attention, masks, DeepLab
snakemake "$target" --cores all --configfile config/mini.yaml --nolock --rerun-incomplete \
    --prioritize results/mini/voc_table3.csv \
    ${1:+--config "$@"}
shopt -s nullglob
python -m attnseg.tables results/mini/*table*.csv results/mini/claims.csv*
