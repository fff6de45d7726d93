"""Several models are trained at the same time, each by an actor that keeps it.

The data lies in the object store once; every actor reads it in place. The trained model stays in its
actor, which then answers questions, until the best one is known and fetched.
"""

import mobula as ray
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier


@ray.remote
class Trainer:
    def __init__(self, name, model):
        self.name = name
        self.model = model

    def fit(self, data):
        inputs, _, targets, _ = data
        self.model.fit(inputs, targets)
        return self.name

    def score(self, data):
        _, inputs, _, targets = data
        return self.model.score(inputs, targets)

    def get_model(self):
        return self.model


def main():
    ray.init(num_cpus=3)
    inputs, targets = load_digits(return_X_y=True)
    parts = train_test_split(inputs, targets, test_size=0.3, random_state=0)
    data = ray.put(parts)

    models = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "random forest": RandomForestClassifier(n_estimators=50, random_state=0),
        "decision tree": DecisionTreeClassifier(random_state=0),
    }
    trainers = [Trainer.remote(name, model) for name, model in models.items()]
    waiting = {trainer.fit.remote(data): trainer for trainer in trainers}
    scores = {}
    while waiting:
        (done,), _ = ray.wait(list(waiting))
        trainer = waiting.pop(done)
        scores[trainer] = ray.get(trainer.score.remote(data))
        print(f"{ray.get(done)}: {100 * scores[trainer]:.1f} % of the test set right")

    best = max(scores, key=scores.get)
    model = ray.get(best.get_model.remote())
    assert model.score(parts[1], parts[3]) == scores[best] > 0.9
    ray.shutdown()


if __name__ == "__main__":
    main()
