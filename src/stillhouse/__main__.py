"""`python -m stillhouse`, for torchrun."""

from stillhouse.cli import main

main()
