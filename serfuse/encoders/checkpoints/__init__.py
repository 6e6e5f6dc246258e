"""Checkpoints of encoders: found, looked through before they are opened, loaded whole or refused."""
