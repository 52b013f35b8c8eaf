"""A training, in the order to read it.

loop     from the first to the last iteration: set up, resume, step, validate, save, end
trainer  device, mesh, network, engine and step, without anything around them
feed     this rank's micro batches
"""
