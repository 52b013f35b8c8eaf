"""What ends a run, or holds it back, and what is said of it. Read in this order:

stopping     signals, RUN/STOP, the end of the job's time: agreed by all ranks, with a checkpoint
watch        a thread beside the training, which acts where that waits in C++
starters     who started a rank, and whether they are still there
heartbeat    where each rank is, in a file that the others read
hangs        which rank has stopped, from these files
stragglers   which rank is slower than the others, by the same work on each
spikes       a loss or gradient norm that is not finite, or far above the last ones
failure      recorded in the summary; out of memory said in numbers, with the remedy
abort        a rank that fails says so once, and takes the others with it
"""
