"""What ours is measured against; shares no code with it."""
