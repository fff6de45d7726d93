"""What `import ray` finds in interpreters that a program under `python -m mobula.ray` starts: children
of multiprocessing, scripts of its own. The folder above is on their PYTHONPATH."""

import importlib
import sys

from mobula import ray

ray.install()
# The import system takes what stands here in the end.
sys.modules["ray"] = importlib.import_module("ray")
