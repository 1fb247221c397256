"""What a run is: from a configuration to checkpoints, results and codes."""
