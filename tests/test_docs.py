"""The site: every page has its place, every public name its entry, every link its target; `make docs` builds it."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_architecture import ROOMS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "benchmarks"))

import lines  # noqa: E402

PAGES = sorted(DOCS.rglob("*.md"))
PUBLIC = [
    "torch_es",
    *(
        f"torch_es.{n}"
        for n in (
            "search",
            "nn",
            "heads",
            "envs",
            "evaluators",
            "cluster",
            "loggers",
            "report",
            "sb3",
            "adapters",
            "hub",
        )
    ),
]
CODE = re.compile(r"(?<=[_\"'])F\d\d(?=[_\"'])")  # in a test's name, or a parameter


def nav_pages(tree):
    if isinstance(tree, str):
        return [tree]
    return [page for part in (tree if isinstance(tree, list) else tree.values()) for page in nav_pages(part)]


def test_every_page_stands_in_the_navigation_once():
    named = nav_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(named) == [str(page.relative_to(DOCS)) for page in PAGES]


def test_the_reference_shows_what_is_public_and_nothing_else():
    entries = [name for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)]
    seen, public = set(), set()
    for module in PUBLIC:
        for name in (loaded := importlib.import_module(module)).__all__:
            if id(getattr(loaded, name)) not in seen:  # under the first module that exports it
                public.add(f"{module}.{name}")
            seen.add(id(getattr(loaded, name)))
    assert sorted(entries) == sorted(public)


def test_every_fault_code_is_explained_and_tested():
    explained = re.findall(r"^\| (F\d\d) \|", (DOCS / "fault-codes.md").read_text(), re.M)
    assert len(explained) == len(set(explained))
    tested = {code for file in Path(__file__).parent.rglob("test_*.py") for code in CODE.findall(file.read_text())}
    assert set(explained) == tested


def test_every_room_is_described_in_order():
    described = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", (DOCS / "architecture.md").read_text(), re.M)
    assert described == ROOMS


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md", "docs/fault-codes.md"])
def test_files_that_contributors_are_sent_to_exist(page):
    named = set(re.findall(r"`([\w/-]+/[\w-]+\.(?:py|yaml))`", (ROOT / page).read_text()))
    missing = {
        name for name in named if "NAME" not in name and not any((ROOT / at / name).exists() for at in ("", "torch_es"))
    }
    assert named
    assert not missing


def anchors(page):
    """The ids that headings get, as mkdocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_the_lines_in_the_table_are_those_of_the_scripts():
    for row in json.loads((lines.RESULTS / "lines.json").read_text())["rows"]:
        assert lines.counted((lines.SCRIPTS / row["file"]).read_text()) == (row["lines"], row["statements"])
    assert lines.counted("a = [\n    1,  # one\n]\n\n# nothing\nb = 2\n") == (4, 2)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = "".join(page.read_text() for page in (tmp_path / "site").rglob("*.html"))
    listed = re.findall(
        r"^::: (\S+)$", "".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md")), re.M
    )
    assert "torch_es.nn.VirtualBatchNorm" in listed
    for name in (*listed, "torch_es.ES.learn"):
        assert f'id="{name}"' in written
    assert "github.com/torch-es/torch_es/blob/main/benchmarks/results" in written
