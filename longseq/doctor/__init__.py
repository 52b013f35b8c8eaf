"""Is every host fit for a run? A process on each looks at it (probe), one reads all (judge).

    longseq doctor [--json]     finds the hosts and the launcher as a run would (ALCF/doctor.sh)

Every launch on several hosts begins with it (ALCF/preflight.sh); PREFLIGHT=0 leaves it out.

command   the verb, and the two parts of it that the scripts call
probe     what one host says of itself, and whether all of them can talk
measure   the rates of one machine, in the terms of its plan
judge     from what they said to who is fit, by name, with the reason
"""
