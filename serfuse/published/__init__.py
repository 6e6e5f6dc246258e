"""The results that the two papers print, as data."""
