"""Queues of samples for people who check them, and what they decided."""
