"""What is proved and measured where there is a GPU: run.sh does all of it."""
