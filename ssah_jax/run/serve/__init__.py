"""A page on this computer to search an index with, and the same as JSON over HTTP."""
