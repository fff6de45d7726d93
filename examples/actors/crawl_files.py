"""An ActorPool gives work to whichever actor is free.

Actors read the source files of Python's own standard library and count the words in them; each keeps
what it has counted. Files are of very different sizes, so a fixed share for each actor would leave
some of them idle.
"""

import collections
import re
import sys
import sysconfig
from pathlib import Path

import mobula as ray
from mobula.util import ActorPool

ACTORS = 2
WORD = re.compile(r"[A-Za-z]+")


@ray.remote
class Reader:
    def __init__(self):
        self.words = collections.Counter()
        self.files = 0

    def read(self, path):
        """The number of words in a file."""
        words = WORD.findall(Path(path).read_text(encoding="utf-8", errors="replace"))
        self.words.update(words)
        self.files += 1
        return len(words)

    def summary(self):
        return self.files, self.words


def main():
    files_max = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    folder = Path(sysconfig.get_path("stdlib"))
    paths = sorted(str(path) for path in folder.glob("*.py"))[:files_max]

    ray.init(num_cpus=ACTORS)
    readers = [Reader.remote() for _ in range(ACTORS)]
    pool = ActorPool(readers)
    counts = list(pool.map_unordered(lambda reader, path: reader.read.remote(path), paths))

    all_words = collections.Counter()
    for number, (files, words) in enumerate(ray.get([r.summary.remote() for r in readers])):
        print(f"reader {number} has read {files} files with {sum(words.values())} words")
        all_words.update(words)
    print("most frequent:", ", ".join(word for word, _ in all_words.most_common(8)))
    assert len(counts) == len(paths)
    assert sum(all_words.values()) == sum(counts)
    ray.shutdown()


if __name__ == "__main__":
    main()
