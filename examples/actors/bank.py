"""Calls to one actor never run at the same time, so many callers need no locks.

Tellers move money between accounts as fast as they can. Each transfer reads two balances and writes
two, which would lose money if two of them ran at once. At the end the sum is what it was.
"""

import random

import mobula as ray

ACCOUNTS = 10
OPENING_BALANCE = 1_000
TELLERS = 4
TRANSFERS_PER_TELLER = 500


class InsufficientFunds(Exception):
    pass


@ray.remote
class Bank:
    def __init__(self, accounts, balance):
        self.balances = dict.fromkeys(range(accounts), balance)
        self.refused = 0

    def transfer(self, source, target, amount):
        if self.balances[source] < amount:
            self.refused += 1
            raise InsufficientFunds(f"account {source} has {self.balances[source]}, not {amount}")
        self.balances[source] -= amount
        self.balances[target] += amount

    def audit(self):
        return dict(self.balances), self.refused


@ray.remote(num_cpus=0.25)
def teller(bank, number, transfers):
    """Moves money at random. Returns how many transfers the bank refused."""
    choose = random.Random(number)
    refused = 0
    for _ in range(transfers):
        source, target = choose.sample(range(ACCOUNTS), 2)
        try:
            ray.get(bank.transfer.remote(source, target, choose.randrange(1, 500)))
        except InsufficientFunds:  # The exception of the actor's method, as its own class.
            refused += 1
    return refused


def main():
    ray.init(num_cpus=2)
    bank = Bank.options(num_cpus=0.5).remote(ACCOUNTS, OPENING_BALANCE)
    refused = ray.get([teller.remote(bank, i, TRANSFERS_PER_TELLER) for i in range(TELLERS)])
    balances, refused_by_bank = ray.get(bank.audit.remote())

    print(f"{TELLERS} tellers made {TELLERS * TRANSFERS_PER_TELLER} transfers")
    print(f"refused: {sum(refused)}, as counted by the bank: {refused_by_bank}")
    print(f"balances: {sorted(balances.values())}, sum {sum(balances.values())}")
    assert sum(balances.values()) == ACCOUNTS * OPENING_BALANCE
    assert sum(refused) == refused_by_bank > 0
    assert min(balances.values()) >= 0
    ray.shutdown()


if __name__ == "__main__":
    main()
