"""`import ray` gives Mobula in every interpreter of this environment, unless there is a Ray.

The .pth file beside this one imports it at the start of each interpreter. So it imports nothing but
`sys`, and puts its finder last: whatever else finds a `ray` comes first.
"""

import sys


class _Loader:
    """Makes the module `ray`. From then on `ray` is Mobula in this process and its workers."""

    @staticmethod
    def create_module(spec):
        from mobula import ray

        ray.install()
        return ray.module()

    @staticmethod
    def exec_module(module):
        pass


class Finder:
    """Answers for `ray`, the module and the distribution, if nobody else does and there is a Mobula."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):
        if fullname != "ray":
            return None
        mobula = _mobula()
        if mobula is None:
            return None
        later = sys.meta_path[sys.meta_path.index(Finder) + 1 :] if Finder in sys.meta_path else ()
        for finder in later:
            found = (
                finder.find_spec(fullname, path, target) if hasattr(finder, "find_spec") else None
            )
            if found is not None:
                return found
        from importlib.machinery import ModuleSpec

        spec = ModuleSpec("ray", _Loader, origin=mobula.origin, is_package=True)
        spec.has_location = True
        spec.submodule_search_locations = list(mobula.submodule_search_locations)
        return spec

    @staticmethod
    def find_distributions(context):
        """`ray`, for who asks what can be imported. What is in certain folders is not for us to say."""
        if context.name is not None and context.name.lower() != "ray":
            return
        if "path" in vars(context) and context.path != sys.path:
            return
        from importlib.metadata import DistributionFinder, MetadataPathFinder

        find = MetadataPathFinder.find_distributions
        if any(find(DistributionFinder.Context(name="ray"))):
            return
        mobula = _mobula()
        for folder in mobula.submodule_search_locations if mobula else ():
            yield from find(DistributionFinder.Context(name="ray", path=[folder + "/_as_ray"]))


def _mobula():
    from importlib.util import find_spec

    return find_spec("mobula")


if Finder not in sys.meta_path:
    sys.meta_path.append(Finder)
