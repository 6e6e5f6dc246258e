"""A trained model in one file, and its answers on new audio."""
