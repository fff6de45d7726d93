"""What Ray calls experimental, as far as it is there: keys and values, bars, where objects are."""

from mobula.experimental import internal_kv, tqdm_ray
from mobula.experimental.locations import get_local_object_locations, get_object_locations

__all__ = [
    "get_local_object_locations",
    "get_object_locations",
    "internal_kv",
    "tqdm_ray",
]
