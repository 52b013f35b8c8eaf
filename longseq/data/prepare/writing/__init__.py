"""What a preparation writes, and how far it is. Read in this order:

progress  a place between two records, for the same command to go on from after a kill
output    what is written, in the order of the tasks, and taken back where a file is bad
working   the folder where it is written: which files there are its own, and how they leave it
finish    its end: sums checked, groups, index and manifest written
"""
