"""Types for annotations: `from mobula.types import ObjectRef`."""

from mobula._core import ObjectRef

__all__ = ["ObjectRef"]
