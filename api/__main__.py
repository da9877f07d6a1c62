"""`python -m api` is `annals`."""

from api.cli import main

main(prog_name="annals")
