"""Finished runs as a page to read, or as a table to paste."""
