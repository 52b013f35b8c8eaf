"""Is every host fit for a run? A process on each looks at it (probe), one reads all (judge).

    longseq doctor [--json]     finds the hosts and the launcher as a run would (ALCF/doctor.sh)

Every launch on several hosts begins with it (ALCF/preflight.sh); PREFLIGHT=0 leaves it out.

command   the verb, and the two parts of it that the scripts call
probe     what one host says of itself, and its ranks' part in the test of all
gpus      a host's GPUs: in use, faulty, slowed down
room      what ulimit, quotas and disks leave
network   what all ranks find out together: pairs, transport, an all-reduce
links     which hosts are slow, from what they exchanged in pairs
judge     from what they said to who is fit, by name, with the reason
verdict   what is known of all hosts, and how it is said
measure   the rates of one machine, in the terms of its plan
"""
