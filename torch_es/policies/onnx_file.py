"""From torch.export's program to ONNX, with named inputs and outputs, and onnxruntime to try it."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_flatten_with_path, tree_unflatten

from torch_es.errors import needs


def onnx_model(
    program: torch.export.ExportedProgram, arguments: tuple[Any, ...], answer: Any
) -> torch.onnx.ONNXProgram:
    """Return the program as ONNX.

    Args:
        program: Of a `Policy`.
        arguments: What it is called with: observation, or observation, state and episode_start.
        answer: What it returns for them: action, or action and next state.

    Raises:
        ValueError: If something in it has no equivalent in ONNX.
        MissingExtraError: If a package is not installed.
    """
    with needs("onnx"):
        import onnxruntime  # noqa: F401 - the model is tried by it
        import onnxscript  # noqa: F401 - torch.onnx needs it
    answers = answer if len(arguments) > 1 else (answer,)
    given = zip(("observation", "state", "episode_start"), arguments, strict=False)
    returned = zip(("action", "next_state"), answers, strict=False)
    inputs, outputs = ([name for prefix, part in parts for name in _names(prefix, part)] for parts in (given, returned))
    try:
        with quiet():
            model = torch.onnx.export(program, input_names=inputs, output_names=outputs, dynamo=True, verbose=False)
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(f"`policy` cannot be exported to ONNX, torch.onnx says: {first_line(error)}") from error
    assert model is not None
    return model


def runner(model: torch.onnx.ONNXProgram, answer: Any) -> Callable[..., Any]:
    """Return a function that runs the model in onnxruntime and takes and returns what the program does.

    Raises:
        ValueError: If onnxruntime cannot run it, as with layers of bfloat16.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(model.model_proto.SerializeToString())
    except Exception as error:  # onnxruntime's errors have no base class of their own
        reason = f"onnxruntime says: {first_line(error)}"
        raise ValueError(f"`policy` cannot be run as ONNX, {reason}; pt2 runs in PyTorch.") from error
    names, structure = [given.name for given in session.get_inputs()], tree_flatten(answer)[1]

    def run(*arguments: Any) -> Any:
        leaves = [leaf.numpy() for leaf in tree_flatten(arguments)[0]]
        returned = session.run(None, dict(zip(names, leaves, strict=True)))
        arrays = [np.asarray(array) for array in returned]
        named = [array.view(np.dtype(array.dtype.str)) for array in arrays]  # torch knows uint64, not NumPy's ulonglong
        return tree_unflatten(list(map(torch.from_numpy, named)), structure)

    return run


def _names(prefix: str, tree: Any) -> list[str]:
    """Return names for the leaves of a tree.

    Example:
        >>> _names("observation", {"arm": 0, "gears": (1, 2)})
        ['observation.arm', 'observation.gears.0', 'observation.gears.1']
    """
    paths = [path for path, _ in tree_flatten_with_path(tree)[0]]
    return [".".join([prefix, *(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)]) for path in paths]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress torch's warnings about its own code and about missing packages that we do not need."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def first_line(error: Exception) -> str:
    """Return the first line of an error, which says what happened; torch's errors go on for pages."""
    return str(error).strip().partition("\n")[0]
