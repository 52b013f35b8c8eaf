"""Time of steps and of their parts."""
