"""The method: what one training step computes, and how it updates the state."""
