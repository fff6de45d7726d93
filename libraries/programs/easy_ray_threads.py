"""easy-ray-threads: a function over a list; failures come back as values."""

import ray
from _checks import check, done
from easy_ray_threads import Processor

WORDS = ["manta", "eagle", "sting", "torpedo"]


def length_of(word: str) -> int:
    if not word:
        raise ValueError("an empty word")
    return len(word)


processor = Processor()
check("Ray was started", ray.is_initialized())

upper = processor.process(WORDS, lambda word: word.upper())
check("every item has a result", sorted(upper) == ["EAGLE", "MANTA", "STING", "TORPEDO"])

mixed = processor.process(["ray", "", "skate"], length_of)
good = sorted(one for one in mixed if isinstance(one, int))
bad = [one for one in mixed if isinstance(one, dict)]
check("what succeeds is returned as it is", good == [3, 5])
check("what fails tells its item and its error", bad == [{"item": "", "error": "an empty word"}])

check(
    "any iterable will do",
    sorted(processor.process(iter(range(5)), lambda n: n**2)) == [0, 1, 4, 9, 16],
)
check("nothing gives nothing", processor.process([], length_of) == [])
many = processor.process(range(200), lambda n: n + 1)
check("two hundred items", sorted(many) == list(range(1, 201)))
again = Processor().process(["a"], str.upper)
check("a second processor uses what runs", again == ["A"])
ray.shutdown()
done()
