"""`torch-es export`: a run's centre as a file that acts without torch_es."""

from __future__ import annotations

from torch_es.cli.out import add_out, out_file
from torch_es.cli.playing import load, run_parser
from torch_es.loggers.progress import Terminal
from torch_es.policies.export import FORMATS


def export(arguments: list[str]) -> None:
    """Write the policy of a run's centre as one file: observation in, action out."""
    parser = run_parser(export, best=True)
    told = "onnx, or pt2 for torch.export; by default the ending of --out, or else onnx"
    parser.add_argument("--format", choices=FORMATS, help=told)
    add_out(parser, "policy.onnx or policy.pt2")
    given = parser.parse_args(arguments)
    ending = given.out.suffix[1:] if given.out else ""
    form = given.format or (ending if ending in FORMATS else FORMATS[0])
    if ending not in ("", *FORMATS) and given.format is None:
        raise ValueError(f"`--out` must end in .{' or .'.join(FORMATS)}, got `{given.out}`; or name the `--format`.")
    if ending in FORMATS and ending != form:
        raise ValueError(f"`--format` must fit the ending of `--out`, got {form} for `{given.out}`; leave it out.")
    out = out_file(given.out, given.run, f"policy.{form}")
    with load(given, {"num_workers": 0}, best=given.best) as es:
        path = es.policy.export(out, form)
    Terminal().print(str(path))
