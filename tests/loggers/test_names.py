import pytest

from torch_es import ES, mlp
from torch_es.loggers import named

ROW = {"global_step": 8.0, "time/fps": 5.0, "rollout/ep_rew_mean": 1.0, "eval/mean_reward": 2.0, "es/grad_norm": 3.0}


@pytest.mark.parametrize(
    ("naming", "ours", "cleanrls"),
    [("sb3", True, False), ("cleanrl", False, True), ("both", True, True)],
)
def test_metrics_carry_the_names_asked_for(naming, ours, cleanrls):
    row = named(ROW, naming)
    assert ("time/fps" in row, "charts/SPS" in row) == (ours, cleanrls)
    assert row.get("charts/episodic_return", 1.0) == row.get("rollout/ep_rew_mean", 1.0) == 1.0
    assert row["es/grad_norm"] == 3.0
    assert row["global_step"] == 8.0


def test_a_run_measures_all_that_has_a_name_elsewhere():
    seen = {}
    with ES(mlp(4, 2), "CartPole-v1", num_pairs=2, num_workers=0) as es:
        es.learn(100, callback=seen.update)
    charts = {key for key in named(seen, "cleanrl") if key.startswith("charts/")}
    assert charts == {
        "charts/episodic_return", "charts/episodic_length", "charts/eval_episodic_return", "charts/SPS",
        "charts/learning_rate",
    }  # fmt: skip
    assert {"es/grad_norm", "es/param_norm", "es/update_ratio", "train/learning_rate"} <= seen.keys()
