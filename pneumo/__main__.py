"""`python -m pneumo` is the command `pneumo`, also where the package is not installed, as in the image."""

from pneumo.cli.main import main

main(prog_name="pneumo")
