"""Readers of corpora: where the rows come from."""
