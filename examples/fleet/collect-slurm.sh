#!/bin/sh
# Describe every node of a Slurm cluster, one task a node: machines/NODE.json. Arguments go to srun: -p gpu, -w node[1-9].
set -eu
mkdir -p machines
nodes=$(sinfo -h -N -o %N "$@" | sort -u | wc -l)
srun -N "$nodes" --ntasks-per-node=1 "$@" sh -c '
    uvx uvtorch torch detect --json > "machines/$SLURMD_NODENAME.json.part" &&
        mv "machines/$SLURMD_NODENAME.json.part" "machines/$SLURMD_NODENAME.json"
'
ls machines
