"""Preparing data, and reading batches."""
