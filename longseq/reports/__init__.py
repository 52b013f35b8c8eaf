"""Tables, plots and the page about a run."""
