"""The sample: an index of the documents that every Python environment has."""
