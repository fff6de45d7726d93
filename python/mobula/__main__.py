"""`python -m mobula`: the same as the command `mobula`."""

from mobula._cli import main

main()
