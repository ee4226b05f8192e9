#!/usr/bin/env bash
# The mini scale, from whatever an earlier run has finished: run_mini.sh TARGET. Prints the tables.
set -euo pipefail

mkdir -p work/mini
exec 9> work/mini/.running
if ! flock --nonblock 9; then
    echo "another run is at work here: waiting for it" >&2
    flock 9
fi
# --nolock: the lock above is given up when a run is killed, Snakemake's own is not
snakemake "$1" --cores all --configfile config/mini.yaml --nolock --rerun-incomplete
python -m attnseg.tables results/mini/*table*.csv
