"""The version of this package; pyproject.toml has the same."""

__version__ = "0.1.0"

# The Ray that this is compatible with: what a program reads that says `import ray`.
RAY_VERSION = "2.60.0"
