"""What this machine has, and files that are whole or not there. Knows nothing of a run.

atomic_files    the only place with fsync, rename and digests; counts such work
growing_files   files that grow by whole pieces, which wait for room on a full disk
split_output    output to the screen and to a file, which may be full for a while
machine         GPUs' compute capability and packages' versions, asked before torch is imported
gpus            what GPUs can do, by name: peaks, memory, links
affinity        which CPUs and which GPU a rank has, and whether they are near each other
host_memory     how much memory this process took, and its peak
shared_memory   what earlier runs left in /dev/shm, removed
uncompiled      what torch.compile leaves alone, and runs without its compiler
variables       the table of variables (ALCF/variables.txt), and which of them a run keeps
broadcast       a folder onto the local disks of all hosts, in a tree over TCP
scheduler       what squeue or qstat says of our jobs
"""
