import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from omegaconf import OmegaConf

from torch_es.cli.plot import by_settings
from torch_es.report import write_report
from torch_es.report.plotting import AXES, band, curves, plot_runs, read_metrics


def write_run(folder, scale, every=1, steps=100):
    """A run of five generations whose centre's return is the generation times `scale`."""
    folder.mkdir(parents=True)
    rows = []
    for i in range(1, 6):
        row = {"global_step": i * steps, "time/time_elapsed": i / 10, "time/iterations": i}
        row |= {"rollout/ep_rew_mean": i, "rollout/ep_rew_std": 1.0}
        rows.append({**row, "eval/mean_reward": scale * i} if every and i % every == 0 else row)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def configure(folder, **changes):
    config = {"env": {"id": "Hopper-v5", "kwargs": {}}, "strategy": {"sigma": 0.1}, "seed": 0, "run_dir": str(folder)}
    for key, value in changes.items():
        OmegaConf.update(created := OmegaConf.create(config), key.replace("__", "."), value)
        config = OmegaConf.to_container(created)
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")


def test_seeds_are_one_curve_with_its_band_against_steps_seconds_and_generations(tmp_path):
    seeds = [write_run(tmp_path / str(scale), scale) for scale in (1, 3)]
    figure = curves({"both": seeds})
    assert [panel.get_xlabel() for panel in figure.axes] == list(AXES.values())
    for panel, last in zip(figure.axes, (500, 0.5, 5), strict=True):
        (line,) = panel.lines
        assert line.get_xdata()[-1] == pytest.approx(last)
        assert line.get_ydata()[-1] == pytest.approx(2 * 5)
        (filled,) = panel.collections
        assert filled.get_datalim(panel.transData).y1 == pytest.approx(3 * 5)
    assert "mean of 2 runs, lowest to highest" in figure.legends[0].get_texts()[0].get_text()


def test_one_run_is_its_population_with_its_spread_and_its_centre(tmp_path):
    figure = curves({"": [write_run(tmp_path / "r", 3, every=2)]})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "population, mean ± std",
        "centre, noise-free",
    ]
    for panel, unit in zip(figure.axes, (100, 0.1, 1), strict=True):
        population, centre = panel.lines
        np.testing.assert_allclose(population.get_xydata().T, [unit * np.arange(1, 6), range(1, 6)])
        np.testing.assert_allclose(centre.get_xydata().T, [[2 * unit, 4 * unit], [6, 12]])
        (spread,) = panel.collections
        limits = spread.get_datalim(panel.transData)
        np.testing.assert_allclose([limits.x0, limits.x1, limits.y0, limits.y1], [unit, 5 * unit, 1 - 1, 5 + 1])


def test_a_band_ends_where_the_shortest_run_does(tmp_path):
    long, short = ([{"x": float(i), "y": 1.0} for i in range(n)] for n in (10, 4))
    at, *_ = band([long, short], "x", "y")
    assert (at[0], at[-1]) == (0, 3)


@pytest.mark.parametrize("every", [0, 5])  # none, and one row of several
def test_too_few_evaluations_for_a_line_leave_the_population(tmp_path, every):
    seeds = [write_run(tmp_path / name, 1, every=every) for name in "ab"]
    text = curves({"both": seeds}).legends[0].get_texts()[0].get_text()
    assert text == "population, mean of 2 runs, lowest to highest"


def test_runs_are_grouped_by_their_settings_but_for_the_seed(tmp_path):
    a, b, c, d, e = (write_run(tmp_path / "runs" / name, 1) for name in "abcde")
    configure(a)
    configure(b, seed=1)
    configure(c, strategy__sigma=0.2)
    assert by_settings([a, b]) == {"a": [a, b]}
    assert by_settings([a, c, b]) == {"strategy.sigma=0.1": [a, b], "strategy.sigma=0.2": [c]}
    assert by_settings([a, b, d, e]) == {"a": [a, b], "d": [d], "e": [e]}  # what d and e were is not known


def test_no_run_is_left_out_because_another_has_a_newer_key_or_reads_alike(tmp_path):
    a, b, c, d = (write_run(tmp_path / name, 1) for name in "abcd")
    configure(a, strategy__rank=None)
    configure(b)
    configure(c, strategy__sigma=0.2)
    assert by_settings([a, b, c]) == {"strategy.sigma=0.1": [a, b], "strategy.sigma=0.2": [c]}
    configure(d, strategy__sigma="0.2")
    assert by_settings([a, c, d]) == {"a": [a], "c": [c], "d": [d]}
    configure(b, strategy__sigma=1)
    configure(d, strategy__sigma=1.0)
    assert by_settings([b, c, d]) == {"strategy.sigma=1": [b, d], "strategy.sigma=0.2": [c]}


def test_other_names_of_folders_keep_two_runs_apart(tmp_path):
    one, other = (write_run(tmp_path / name / "run", 1) for name in "ab")
    assert by_settings([one, other]) == {"a/run": [one], "b/run": [other]}
    assert np.ptp([len(panel.lines) for panel in curves(by_settings([one, other])).axes]) == 0


ROW = {
    "global_step": 50.0,
    "time/iterations": 1.0,
    "time/fps": 10.0,
    "rollout/ep_rew_mean": 1.5,
    "time/time_elapsed": 1.0,
}


def test_the_curve_is_a_picture_of_all_runs(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        lines = [
            json.dumps({**ROW, "global_step": i, "rollout/ep_rew_std": 1.0, "eval/mean_reward": i}) for i in range(5)
        ]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(lines))
    assert imread(plot_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "c.png")).std() > 0.05


@pytest.mark.parametrize(
    ("content", "message"), [(None, "it has no metrics.jsonl"), ("", "has not finished a generation")]
)
def test_a_folder_without_metrics_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        plot_runs([tmp_path], tmp_path / "c.png")


def test_a_policy_without_its_run_is_told_from_any_other_folder():
    zoo = Path(__file__).parents[2] / "zoo" / "Hopper-v5"
    with pytest.raises(
        ValueError, match=r"Hopper-v5` holds only the policy: it has no metrics\.jsonl; give the folder"
    ):
        curves({"": [zoo]})
    with pytest.raises(ValueError, match="holds only the policy"):
        write_report(zoo)


def test_a_last_row_that_was_cut_short_does_not_count(tmp_path):
    run = write_run(tmp_path / "a", scale=2)
    whole = read_metrics(run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"global_step": 6')
    assert read_metrics(run) == whole
    (run / "metrics.jsonl").write_text("{\n{}\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl` has a row that is not JSON"):
        read_metrics(run)
