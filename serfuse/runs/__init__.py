"""Finished runs: their folders, read, written and compared."""
