"""`python -m distill`, for launchers that start modules."""

from distill.cli import main

main()
