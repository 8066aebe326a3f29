"""The report: evidence and pictures in `page.html`."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from matplotlib.figure import Figure

from torch_es.report import pictures
from torch_es.report.evidence import Evidence
from torch_es.report.plotting import curves
from torch_es.runs import commands
from torch_es.runs.machine import version

_TEMPLATE = Path(__file__).with_name("page.html")
_COUNTED = {
    "es/nonfinite_returns": "returns that were NaN or infinite",
    "es/dropped_pairs": "pairs that were dropped",
    "es/worker_restarts": "workers that were replaced",
}


def write_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write one self-contained HTML page about a run, and return its path.

    The run may still be training. No episode is played; noise is computed again for a few seconds.

    Args:
        folder: The run's folder.
        out: The page's file; by default `report.html` in the folder.

    Raises:
        ValueError: If the folder is not a run, or has not finished a generation yet.
        RunFolderError: If its replay log is missing or damaged.

    Example:
        >>> import tempfile, torch
        >>> from torch_es import ES
        >>> folder = tempfile.mkdtemp()
        >>> es = ES(torch.nn.Linear(4, 2), "CartPole-v1", num_pairs=2, num_workers=0).learn(200, folder=folder)
        >>> write_report(folder).name
        'report.html'
    """
    folder = Path(folder)
    page = render(Evidence(folder))
    path = folder / "report.html" if out is None else Path(out)
    path.write_text(page, encoding="utf-8")
    return path


def render(run: Evidence) -> str:
    """Return the page as text."""
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(
        _TEMPLATE.read_text(encoding="utf-8")
    )
    shaping = run.header["options"].get("shaping")
    try:
        settings = dict(yaml.safe_load(run.config))
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ValueError(f"`{run.folder}/config.yaml` is not the config of a run: {error}") from error
    norm = bool(run.records) and run.records[-1].progress["observation_norm"] is not None
    return template.render(
        title=f"{run.env or 'ES'} · {run.folder.resolve().name}",
        summary=_summary(run),
        curve=_inline(curves({"": [run.folder]})),
        histogram=_inline(pictures.histogram(run.records)) if run.records else None,
        gradient=_inline(pictures.gradient(run.rows)),
        **_signal(run),
        shaping=shaping
        if isinstance(shaping, str)
        else "the strategy's default, since a function of your own is not in the log",
        searches_actions=run.header["options"].get("sigma") == 0,
        own_strategy=isinstance(run.header["options"]["strategy"], dict),
        low_rank=run.header["options"].get("rank") is not None,
        observations=_inline(pictures.observations(run.records)) if norm else None,
        constant=np.flatnonzero(pictures.statistics(run.records[-1])[1] == 0).tolist() if norm else [],
        video=run.video and _data_uri(run.video, "video/mp4"),
        config=run.config,
        machine=run.header["machine"],
        nodes=run.nodes,
        version=version("torch-evolution"),
        folder=run.folder,
        command=commands.command,
        resume=commands.resume,
        imports=commands.imports(settings),
        named=list(commands.modules(settings).values()),
        continued=(run.folder / "config.yaml").is_file(),
        last=run.records[-1].generation if run.records else 0,
    )


def _summary(run: Evidence) -> dict[str, str]:
    """Return the summary at the top of the page."""
    last, options = run.rows[-1], run.header["options"]
    evaluated = [row["eval/mean_reward"] for row in run.rows if "eval/mean_reward" in row]
    table = {
        "environment": run.env or "made by a function",
        "strategy": f"{_named(options['strategy'])}, sigma {last.get('train/sigma', 0):.4g}",
        "parameters": "not known before the first checkpoint" if run.dim is None else f"{run.dim:,}",
        "generations": f"{last['time/iterations']:,.0f} of {last.get('es/num_pairs', 0):,.0f} pairs",
        "environment steps": f"{last['global_step']:,.0f} in {last.get('time/total_episodes', 0):,.0f} episodes",
        "time": f"{last['time/time_elapsed']:,.1f} s, {last['global_step'] / last['time/time_elapsed']:,.0f} steps/s",
        "population's return, last": f"{last.get('rollout/ep_rew_mean', float('nan')):,.1f}",
        "seed": str(run.header["seed"]),
    }
    if evaluated:
        table["centre's return in training, last and best"] = f"{evaluated[-1]:,.1f}, {max(evaluated):,.1f}"
    if "eval/mean_reward" in run.ended:
        table["centre's return at the end"] = (
            f"{run.ended['eval/mean_reward']:,.1f} ± {run.ended['eval/std_reward']:,.1f}"
        )
    # restarts are counted since the workers started, the others in each generation
    for key, what in _COUNTED.items():
        values = [row.get(key, 0.0) for row in run.rows]
        total = max(values) if key == "es/worker_restarts" else sum(values)
        if total:
            table[what] = f"{total:,.0f}"
    return table


def _named(strategy: Any) -> str:
    """Return the name of a strategy; one that was given as a function or an object has its own."""
    return str(strategy["function"]) if isinstance(strategy, dict) else str(strategy)


def _signal(run: Evidence) -> dict[str, Any]:
    """Return the picture of the split-half cosines, and its caption."""
    if run.dim is None or not run.cosines:
        return {"cosines": None}
    values = np.array([cosine for _, cosine in run.cosines])
    half = run.records[-1].fitness.size / 4
    return {
        "cosines": _inline(pictures.cosines(run.cosines, chance=run.dim**-0.5)),
        "mean": f"{values.mean():.4f}",
        "error": f"{values.std(ddof=1) / np.sqrt(len(values)):.4f}" if len(values) > 1 else None,
        "ceiling": f"{half / (half + run.dim + 1):.4f}",
    }


def _inline(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, dpi=110, format="png")
    return _data_uri(content.getvalue(), "image/png")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
