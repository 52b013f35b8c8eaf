from benchmarks.environment import tell_of_a_wrong_python

tell_of_a_wrong_python()  # `python -m tests.gpu.kernels` and the like, by a Python of one's own
