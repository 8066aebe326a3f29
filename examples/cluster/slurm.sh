#!/bin/bash
#SBATCH --job-name=torch-es
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=02:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@120
# `sbatch examples/cluster/slurm.sh env=humanoid` trains on all nodes of the job. The folder is shared by the nodes, so
# that a job that was requeued continues the run.
set -euo pipefail
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
[ -s ~/.ray/auth_token ] || ray get-auth-token --generate > /dev/null
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_ON_NODE" -- \
  torch-es "$@" evaluator=ray evaluator.address=auto resume=auto run_dir="runs/slurm-$SLURM_JOB_ID"
