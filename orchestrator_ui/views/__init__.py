"""What the pages show, read with a constant number of queries and no request."""
