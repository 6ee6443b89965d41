#!/bin/sh
# Train on the GPUs of one machine, or of several that see the same folders. On each of them, at about the same time:
#
#     sh docs/cluster/torchrun.sh run.yaml                            # one machine, all of its GPUs
#     NODES=4 HEAD=machine1:29500 sh docs/cluster/torchrun.sh run.yaml    # four machines, the first of them machine1
#
# PROCESSES: processes of a machine, where there are no GPUs or not all of them are wanted. RESTARTS: how often all processes start
# again when one has ended; they go on from the last state.
set -eu
# Else processes that start again find the addresses of those that have ended (seen with PyTorch 2.14 and gloo), and never meet.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec torchrun \
    --nnodes="${NODES:-1}" \
    --nproc-per-node="${PROCESSES:-gpu}" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="${HEAD:-localhost:0}" \
    --rdzv-id="${RUN_ID:-m2clip}" \
    --max-restarts="${RESTARTS:-3}" \
    -m m2clip train "$@" --auto-resume
