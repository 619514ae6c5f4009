"""`python -m emalign` is `emalign`."""

from emalign.cli import main

main()
