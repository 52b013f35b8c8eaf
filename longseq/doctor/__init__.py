"""Is every host fit for a run? A process on each looks at it (probe), one reads all (judge).

    longseq doctor [--json]     finds the hosts and the launcher as a run would (ALCF/doctor.sh)

Every launch on several hosts begins with it (ALCF/preflight.sh); PREFLIGHT=0 leaves it out.
"""
