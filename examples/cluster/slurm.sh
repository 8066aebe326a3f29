#!/bin/bash
#SBATCH --job-name=torch-es
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=02:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
# `sbatch examples/cluster/slurm.sh env=humanoid` trains on all nodes of the job, the first one included. The folder must
# be one that the nodes share. Two minutes before its time is over, the job is queued again, and then continues the run.
# Never run by us.
set -euo pipefail
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
[ -s ~/.ray/auth_token ] || ray get-auth-token --generate > /dev/null
trap 'scontrol requeue "$SLURM_JOB_ID"' USR1
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --cpus-per-task="$SLURM_CPUS_ON_NODE" --cpu-bind=none \
  ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_ON_NODE" -- \
  torch-es "$@" evaluator=ray evaluator.address=auto resume=auto run_dir="runs/slurm-$SLURM_JOB_ID" &
wait
