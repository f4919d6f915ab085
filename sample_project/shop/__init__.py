"""A shop whose orders take days: the running example of the documentation."""
