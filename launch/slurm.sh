#!/bin/bash
# Several nodes under Slurm: one torchrun on each, all meeting at the first.
#
#     sbatch --nodes=2 --gpus-per-node=8 launch/slurm.sh recipe=grpo_math run.dir=outputs/math
#
# What follows the script's name goes to launch/train.py. Submit from the checkout; it and run.dir must be on a file
# system that every node sees. Add your own --partition, --account and --time on the command line.
#
# Ten minutes before the time limit Slurm sends SIGUSR1: the job goes back into the queue and, with resume=auto,
# continues from its last checkpoint. Choose checkpoint.every so that losing the steps since then is cheap.

#SBATCH --job-name=reasoning-rl
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@600
#SBATCH --output=slurm-%j.out

set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
export PATH="$PWD/.venv/bin:$PATH"

# Ranks on a node: its GPUs, or RANKS_PER_NODE (for nodes without a GPU: RANKS_PER_NODE=2 sbatch ...).
ranks_per_node=${RANKS_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
first_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000))  # two jobs on one node do not meet each other

requeue() {
    echo "time is nearly up: back into the queue, to resume from the last checkpoint"
    scontrol requeue "$SLURM_JOB_ID"
}
trap requeue USR1

# One line of output file per node: slurm-<job>-node<k>.log. srun runs in the background because bash acts on a signal
# only between commands or inside `wait`.
srun --kill-on-bad-exit=1 --open-mode=append --output="slurm-%j-node%n.log" \
    torchrun \
    --nnodes="$SLURM_JOB_NUM_NODES" \
    --nproc_per_node="$ranks_per_node" \
    --rdzv_id="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
    --rdzv_backend=c10d \
    --rdzv_endpoint="$first_node:$port" \
    launch/train.py "$@" resume=auto &

# A trapped signal ends `wait` early, with a status above 128: wait again for the run itself.
status=0
wait $! || status=$?
if ((status > 128)); then wait $! || status=$?; fi
exit "$status"
