import matplotlib.pyplot as plt
from my_env import Reach
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.results_plotter import plot_results

model = PPO("MlpPolicy", Monitor(Reach(), "run/training"))
model.learn(20_000)
print(evaluate_policy(model, Monitor(Reach())))
model.save("model")
model = PPO.load("model", Reach())
plot_results(["run"], None, "timesteps", "Reach")
plt.savefig("curve.png")
