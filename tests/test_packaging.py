"""The wheel holds all that a run needs: installed elsewhere, without the source tree, it trains."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_installed_wheel_trains_from_another_folder(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT],
        check=True,
        capture_output=True,
        timeout=300,
    )
    wheel = next(tmp_path.glob("torch_evolution-*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True, timeout=300)
    small = ["env=cartpole", "strategy.num_pairs=2", "total_timesteps=200", "video=false", "run_dir=r"]
    code = f"import torch_es.cli; print(torch_es.__file__); raise SystemExit(torch_es.cli.main({small!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert (tmp_path / "r" / "metrics.jsonl").is_file()
    assert (tmp_path / "site" / "torch_es" / "report" / "page.html").is_file()
