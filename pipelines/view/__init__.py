"""The viewer: a data set and its rejects in a browser. Its cards are also those of the report."""
