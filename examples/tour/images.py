"""Image transformations: large photographs in the object store, many tasks reading them.

Eight photographs of 2000 x 1500 pixels (9 MB each) are put in the store once.
Every task gets one of them without a copy, blurs it, augments it, and does tensor
arithmetic on it. Two tasks share each photograph, with different random numbers.
"""

import logging
import os

import measure
import mobula as ray
import numpy as np
import torch
import vision
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images
from tqdm import tqdm

SIZE = (2000, 1500)
QUICK_SIZE = (400, 300)
THUMBNAIL = (160, 120)
TASKS_PER_PHOTOGRAPH = 2


def large_photographs(size):
    """Two real photographs, enlarged; each also turned and mirrored: eight arrays of RGB bytes."""
    photographs = []
    for pixels in load_sample_images().images:
        large = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
        photographs += [
            np.asarray(large),
            np.asarray(large.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
            np.asarray(large.transpose(Image.Transpose.FLIP_TOP_BOTTOM)),
            np.asarray(large.transpose(Image.Transpose.ROTATE_180)),
        ]
    return photographs


def transform(photograph, seed):
    """Blurs, augments and computes. The same photograph and seed give the same result anywhere."""
    torch.manual_seed(seed)
    image = Image.fromarray(photograph)
    image = image.filter(ImageFilter.GaussianBlur(radius=20))
    image = vision.transforms.TrivialAugmentWide()(image)

    tensor = torch.from_numpy(np.array(image)).to(torch.float32).div_(255)
    transposed = tensor.transpose(0, 1).contiguous()
    brightness = tensor.mean().item()
    contrast = tensor.pow(2).mean().sub(brightness**2).sqrt().item()
    skewness = transposed.pow(3).mean().item()
    overlap = transposed.mul_(1 - transposed).mean().item()

    image.thumbnail(THUMBNAIL)
    return np.asarray(image), (brightness, contrast, skewness, overlap)


@ray.remote
def transform_distributed(photograph, seed):
    return transform(photograph, seed)


@ray.remote
def warm_up(photograph):
    transform(photograph, 0)
    return os.getpid()


@ray.remote
def threads_in_a_task():
    return torch.get_num_threads()


def run_serial(photographs, measurement):
    jobs = list(enumerate(photographs * TASKS_PER_PHOTOGRAPH))
    return [transform(photograph, seed) for seed, photograph in measurement.serially(jobs)]


def run_distributed(photographs):
    photograph_refs = [ray.put(photograph) for photograph in photographs]
    refs = [
        transform_distributed.remote(photograph_ref, seed)
        for seed, photograph_ref in enumerate(photograph_refs * TASKS_PER_PHOTOGRAPH)
    ]
    waiting = refs
    with tqdm(total=len(refs), desc="parallel", **measure.BAR) as bar:
        while waiting:
            done, waiting = ray.wait(waiting)
            bar.update(len(done))
    return ray.get(refs)


def same(one, other):
    """Equal to the last bit: every thumbnail and every number computed on the way."""
    return len(one) == len(other) and all(
        np.array_equal(left[0], right[0]) and left[1] == right[1]
        for left, right in zip(one, other, strict=True)
    )


def main():
    measurement = measure.Measurement("images", __doc__)
    photographs = large_photographs(QUICK_SIZE if measurement.quick else SIZE)
    tasks = len(photographs) * TASKS_PER_PHOTOGRAPH
    height, width, _ = photographs[0].shape
    measurement.say(f"{tasks} tasks on {len(photographs)} photographs of {width} x {height} pixels")

    torch.set_num_threads(1)  # a task has one CPU and so one thread; give the loop the same
    sample = large_photographs(THUMBNAIL)[0]
    transform(sample, 0)
    with measurement.phase("init"):
        ray.init(logging_level=logging.ERROR)
    cpus = int(ray.cluster_resources()["CPU"])
    with measurement.phase("warm-up"):
        measurement.until_every_worker_answers(
            cpus, lambda: ray.get([warm_up.remote(sample) for _ in range(cpus)])
        )

    for _ in measurement.rounds():
        with measurement.phase("serial"):
            serial = run_serial(photographs, measurement)
        with measurement.phase("parallel"):
            distributed = run_distributed(photographs)
        measurement.compare(same(serial, distributed))

    measurement.finish(
        tasks=tasks,
        cpus=cpus,
        function="transform_distributed",
        timeline=ray.timeline,
        details={
            "width": width,
            "height": height,
            "photographs": len(photographs),
            "threads_in_the_loop": torch.get_num_threads(),
            "threads_in_a_task": ray.get(threads_in_a_task.remote()),
        },
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
