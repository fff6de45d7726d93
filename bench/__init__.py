"""Measures Mobula on this machine: `make bench`. See README.md."""
