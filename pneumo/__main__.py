"""`python -m pneumo` is the `pneumo` command where it is not installed, as in the image."""

from pneumo.cli.main import main

main(prog_name="pneumo")
