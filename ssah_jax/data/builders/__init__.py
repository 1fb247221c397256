"""Data sets for TensorFlow Datasets that it does not have itself."""
