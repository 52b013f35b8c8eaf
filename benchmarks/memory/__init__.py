"""What a rank holds, and how long a sequence that allows."""
