from my_env import Reach

from torch_es import ES, mlp
from torch_es.report.plotting import plot_runs

es = ES(mlp(4, 2), Reach)
es.learn(20_000, folder="run")
print(sum(episode.return_ for episode in es.evaluate(10)) / 10)
es.save("model")
es = ES.load("model", mlp(4, 2), Reach)
plot_runs(["run"], "curve.png")
