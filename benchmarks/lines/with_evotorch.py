import pickle

import matplotlib.pyplot as plt
from evotorch.algorithms import PGPE
from evotorch.logging import PandasLogger
from evotorch.neuroevolution import GymNE
from my_env import Reach

problem = GymNE(Reach, "Linear(obs_length, 64) >> Tanh() >> Linear(64, act_length)", observation_normalization=True)
searcher = PGPE(problem, popsize=32, center_learning_rate=0.02, stdev_learning_rate=0.1, stdev_init=0.1)
logger = PandasLogger(searcher)
searcher.run(12)
print(problem.run(searcher.status["center"], num_episodes=10)["cumulative_reward"])
problem.save_solution(searcher.status["center"], "model")
with open("model", "rb") as file:
    policy = pickle.load(file)["policy"]
logger.to_dataframe().to_csv("run.csv")
logger.to_dataframe()["mean_eval"].plot()
plt.savefig("curve.png")
