"""What another package adds to serfuse: one of each kind."""
