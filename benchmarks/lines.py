"""Lines of user code for one task: train on an environment of one's own, log, evaluate, save, reload, plot.

    .venv/bin/python benchmarks/lines.py

The scripts stand in benchmarks/lines/, each as its library's documentation would have it, logs written to disk. Each is
run, in a folder of its own, and must leave a model and a picture. Written to benchmarks/results/lines.json.
"""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import tempfile
import tokenize
from pathlib import Path

from machine import RESULTS, describe

SCRIPTS = Path(__file__).parent / "lines"
SIDES = {
    "torch_es": "with_torch_es.py",
    "Stable-Baselines3 PPO": "with_sb3_ppo.py",
    "sb3-contrib ARS": "with_sb3_contrib_ars.py",
    "evotorch PGPE": "with_evotorch.py",
}
_LAYOUT = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def counted(source: str) -> tuple[int, int]:
    r"""Return the lines that hold code, and the statements.

    Example:
        >>> counted("a = [\n    1,  # one\n]\n\n# nothing\nb = 2\n")
        (4, 2)
    """
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {line for t in tokens if t.type not in _LAYOUT for line in range(t.start[0], t.end[0] + 1)}
    return len(lines), sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(source)))


def works(script: Path) -> None:
    """Run a script in a new folder, and see what it leaves there.

    Raises:
        RuntimeError: If it fails, or leaves no model or no picture.
    """
    places = os.pathsep.join(map(str, (SCRIPTS, SCRIPTS.parent.parent)))
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": places, "MPLBACKEND": "agg"}
        done = subprocess.run([sys.executable, script], cwd=folder, env=environment, capture_output=True, text=True)
        left = {path.name for path in Path(folder).iterdir()}
    if done.returncode or not any(name.startswith("model") for name in left) or "curve.png" not in left:
        raise RuntimeError(f"{script.name} left {left or 'nothing'}:\n{done.stderr}")


def main() -> None:
    rows = []
    for name, file in SIDES.items():
        works(SCRIPTS / file)
        lines, statements = counted((SCRIPTS / file).read_text())
        rows.append({"name": name, "file": file, "lines": lines, "statements": statements})
        print(f"{name}: {lines} lines, {statements} statements", flush=True)
    document = {"machine": describe(), "command": "python benchmarks/lines.py", "rows": rows}
    (RESULTS / "lines.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
