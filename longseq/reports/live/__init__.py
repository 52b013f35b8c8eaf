"""Runs and jobs as they go, in a terminal on a login node, without torch.

jobs        a job's folder, read
watch       a run or a job, as it goes: `longseq watch`
status      all jobs, chains and runs, in short: `ALCF/status.sh`
"""
