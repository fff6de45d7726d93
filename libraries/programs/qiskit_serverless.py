"""Circuits in tasks and actors, with the serializers that qiskit-serverless registers."""

import ray
from _checks import check, done
from qiskit import QuantumCircuit
from qiskit.quantum_info import Operator, Statevector
from qiskit_serverless.serializers import serializers

ray.init(num_cpus=2)
serializers.register_all_serializers()


def ladder(width):
    circuit = QuantumCircuit(width)
    circuit.h(0)
    for qubit in range(width - 1):
        circuit.cx(qubit, qubit + 1)
    return circuit


@ray.remote
def probabilities(circuit):
    return Statevector(circuit).probabilities_dict()


@ray.remote
def deeper(circuit, times):
    return [circuit.power(times, matrix_power=False), circuit.inverse()]


@ray.remote
class Register:
    def __init__(self, circuit):
        self.circuit = circuit

    def add(self, gate, qubit):
        getattr(self.circuit, gate)(qubit)
        return self.circuit


encoded = serializers.circuit_serializer(ladder(3))
check("a circuit is text in between", isinstance(encoded, str))
check("and a circuit again", serializers.circuit_deserializer(encoded) == ladder(3))
check("it goes through the store", ray.get(ray.put(ladder(4))) == ladder(4))
many = ray.get([probabilities.remote(ladder(width)) for width in range(2, 10)])
check(
    "tasks compute with circuits",
    all(
        abs(one["0" * width] - 0.5) < 1e-9 and len(one) == 2
        for width, one in enumerate(many, start=2)
    ),
)
power, inverse = ray.get(deeper.remote(ladder(3), 2))
check("several circuits come back", Operator(inverse) == Operator(ladder(3).inverse()))
check("they are what they were", Operator(power) == Operator(ladder(3)).power(2))
register = Register.remote(ladder(3))
kept = ray.get([register.add.remote("x", 0), register.add.remote("z", 2)])[-1]
check("an actor keeps a circuit", kept.count_ops() == {"cx": 2, "h": 1, "x": 1, "z": 1})
once = ray.put(ladder(6))
check(
    "one circuit for many tasks",
    len({str(one) for one in ray.get([probabilities.remote(once) for _ in range(6)])}) == 1,
)
done()
