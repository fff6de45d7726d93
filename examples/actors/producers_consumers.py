"""A Queue between tasks: who is too fast waits.

Producers make work, consumers do it, and a queue with room for a few items lies between them: the
producers never run far ahead, however many items there are.
"""

import mobula as ray
from mobula.util.queue import Queue

PRODUCERS = 2
CONSUMERS = 2
ITEMS_PER_PRODUCER = 200
ROOM = 8
END = None  # An item that says: there is no more.


@ray.remote(num_cpus=0.5)
def produce(queue, producer):
    most = 0
    for i in range(ITEMS_PER_PRODUCER):
        queue.put((producer, i))  # Waits while the queue is full.
        most = max(most, queue.size())
    return most


@ray.remote(num_cpus=0.5)
def consume(queue):
    done = []
    while (item := queue.get()) is not END:  # Waits while the queue is empty.
        done.append(item)
    return done


def main():
    ray.init(num_cpus=3)
    queue = Queue(maxsize=ROOM, actor_options={"num_cpus": 0})
    consumers = [consume.remote(queue) for _ in range(CONSUMERS)]
    fullest = ray.get([produce.remote(queue, number) for number in range(PRODUCERS)])
    for _ in range(CONSUMERS):
        queue.put(END)

    taken = ray.get(consumers)
    print(f"items per consumer: {[len(items) for items in taken]}; never more than {max(fullest)}")
    together = [item for items in taken for item in items]
    assert max(fullest) <= ROOM
    assert sorted(together) == [
        (producer, i) for producer in range(PRODUCERS) for i in range(ITEMS_PER_PRODUCER)
    ]
    for items in taken:  # One producer's items stay in order.
        for producer in range(PRODUCERS):
            numbers = [i for who, i in items if who == producer]
            assert numbers == sorted(numbers)
    queue.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
