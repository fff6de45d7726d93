"""torchvision's transforms, also where only its compiled operators cannot load.

The torchvision wheel is built against the CUDA build of torch. Beside a CPU-only
torch its shared library does not load, and then the package fails on import,
because it describes two box operators (`nms`, `qnms`) that nobody declared. The
transforms need neither. So where the import fails for that reason, the two are
declared, without an implementation, and the package is imported again: the
transforms are torchvision's own, and calling the operators still says that they
are missing.
"""

import sys

import torch

try:
    from torchvision import transforms
except RuntimeError as error:
    if "torchvision::nms does not exist" not in str(error):
        raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    declarations = torch.library.Library("torchvision", "FRAGMENT")  # dropped when this module goes
    for operator in ("nms", "qnms"):
        declarations.define(
            f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    from torchvision import transforms

__all__ = ["transforms"]
