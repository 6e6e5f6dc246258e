"""`python -m serfuse.cli`, for where no command of that name is on the path."""

from . import main

main()
