"""What Ray calls experimental, as far as it is there: `tqdm_ray`, and where objects are."""

from mobula.experimental.locations import get_local_object_locations, get_object_locations

__all__ = ["get_local_object_locations", "get_object_locations"]
