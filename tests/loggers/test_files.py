import csv
import json

import pytest

from torch_es.loggers import CsvLogger, JsonlLogger


def rows(folder):
    with (folder / "progress.csv").open() as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def log(folder, *metrics, **options):
    logger = CsvLogger(**options)
    logger.start({}, folder)
    for row in metrics:
        logger.log(row)
    logger.close()


def test_a_metric_that_comes_later_gets_a_column(tmp_path):
    log(tmp_path, {"global_step": 1.0}, {"global_step": 2.0, "a": 0.5}, {"global_step": 3.0, "b": 7.0}, naming="sb3")
    assert rows(tmp_path) == [
        {"global_step": "1.0"},
        {"global_step": "2.0", "a": "0.5"},
        {"global_step": "3.0", "b": "7.0"},
    ]


@pytest.mark.parametrize("left", [0, 1, 9])
def test_a_resumed_run_writes_no_row_twice_and_drops_what_a_kill_left(left, tmp_path):
    log(tmp_path, *({"global_step": step, "a": step} for step in (10.0, 20.0, 30.0, 40.0)))
    path = tmp_path / "progress.csv"
    path.write_bytes(path.read_bytes() + b"50.0,50.0"[:left])  # one byte is a step too, an early one
    log(tmp_path, {"global_step": 30.0, "a": 3.0}, {"global_step": 40.0, "a": 4.0})
    assert [(row["global_step"], row["a"]) for row in rows(tmp_path)] == [
        ("10.0", "10.0"), ("20.0", "20.0"), ("30.0", "3.0"), ("40.0", "4.0"),
    ]  # fmt: skip
    assert {p.name for p in tmp_path.iterdir()} == {"progress.csv"}


def test_a_run_without_rows_leaves_no_file(tmp_path):
    log(tmp_path)
    assert not list(tmp_path.iterdir())


def test_rows_are_written_as_they_come_and_stay_valid_json(tmp_path):
    for value in (1.0, float("nan")):
        logger = JsonlLogger()
        logger.start({}, tmp_path)
        logger.log({"global_step": 50.0, "x": value})
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == (1 if value == 1.0 else 2)
        logger.close()
    first, second = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first == {"global_step": 50.0, "x": 1.0}
    assert second == {"global_step": 50.0}


def test_the_result_at_the_end_follows_the_last_generation(tmp_path):
    generation = {"global_step": 20.0, "time/iterations": 2.0}
    for _ in range(2):  # and again, when a run that has ended is resumed
        logger = CsvLogger()
        logger.start({}, tmp_path)
        if _ == 0:
            logger.log({"global_step": 10.0, "time/iterations": 1.0})
            logger.log(generation)
        logger.log({"global_step": 20.0, "eval/mean_reward": 7.0})
        logger.close()
        steps = [(row.get("global_step"), row.get("time/iterations")) for row in rows(tmp_path)]
        assert steps == [("10.0", "1.0"), ("20.0", "2.0"), ("20.0", None)]


def test_another_run_sets_the_rows_of_the_first_aside(tmp_path, caplog):
    for run in (1.0, 2.0, 3.0):
        log(tmp_path, *({"global_step": run + step, "time/iterations": step, "a": run} for step in (1.0, 2.0)))
    kept = {path.name: float(path.read_text().split()[-1].split(",")[-1]) for path in tmp_path.iterdir()}
    assert kept == {"progress.earlier.csv": 1.0, "progress.earlier-2.csv": 2.0, "progress.csv": 3.0}
    assert "held the rows of an earlier run; they are kept as progress.earlier-2.csv" in caplog.text
