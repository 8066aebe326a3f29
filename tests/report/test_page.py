"""The page of a run, read as a browser would."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import torch
from command import torch_es

from torch_es import ES
from torch_es.nn import ObservationNorm
from torch_es.report import write_report
from torch_es.report.plotting import read_metrics

HEADINGS = [
    "Return", "Population", "Gradient and step", "Signal in the gradient", "Observations", "Video", "Commands",
    "Config", "Versions",
]  # fmt: skip


class Page(HTMLParser):
    """Headings, and all that is shown or asked for elsewhere."""

    def __init__(self, path):
        super().__init__()
        self.headings, self.sources, self.tags = [], [], []
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [(tag, value) for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "h2" and data.strip():
            self.headings.append(data.strip())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "r"
    torch.manual_seed(0)
    network = torch.nn.Sequential(ObservationNorm(4), torch.nn.Linear(4, 2))
    with ES(network, "CartPole-v1", num_pairs=8, sigma=0.5, num_workers=0, eval_every=1) as es:
        es.learn(2000, folder=folder)
    return folder


def test_a_page_holds_all_and_asks_the_network_for_nothing(run):
    page = Page(write_report(run))
    assert page.headings == HEADINGS
    assert {source.split(",")[0] for _, source in page.sources} == {"data:image/png;base64"}
    pictures = [base64.b64decode(source.split(",")[1]) for tag, source in page.sources if tag == "img"]
    assert len(pictures) == 5
    assert all(picture.startswith(b"\x89PNG") and len(picture) > 5_000 for picture in pictures)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "url(" not in page.text
    assert "CartPole-v1" in page.text
    assert "centered_ranks" in page.text


def test_a_video_is_inside(run, tmp_path):
    shutil.copytree(run, tmp_path / "v")
    (tmp_path / "v" / "video.mp4").write_bytes(b"frames")
    ((_, source),) = [each for each in Page(write_report(tmp_path / "v")).sources if each[0] == "video"]
    assert source == f"data:video/mp4;base64,{base64.b64encode(b'frames').decode()}"


@pytest.mark.parametrize(("later", "shown"), [(0, True), (1, False)])
def test_the_return_at_the_end_is_told_until_the_run_goes_on(run, tmp_path, later, shown):
    shutil.copytree(run, tmp_path / "s")
    generation = read_metrics(run)[-1]["time/iterations"] - later
    ended = {"generation": generation, "eval/mean_reward": 123.4, "eval/std_reward": 5.6}
    (tmp_path / "s" / "summary.json").write_text(json.dumps(ended))
    assert ("123.4 ± 5.6" in Page(write_report(tmp_path / "s")).text) == shown


def test_what_a_config_says_is_text(run, tmp_path):
    shutil.copytree(run, tmp_path / "c")
    (tmp_path / "c" / "config.yaml").write_text("env:\n  id: <script>alert(1)</script>\n")
    page = Page(write_report(tmp_path / "c"))
    assert "script" not in page.tags
    assert "&lt;script&gt;" in page.text
    assert "torch-es train resume=" in page.text


def test_the_commands_name_the_modules_that_they_import(run, tmp_path):
    shutil.copytree(run, tmp_path / "i")
    (tmp_path / "i" / "config.yaml").write_text("env: {id: 'mine:Reach-v0'}")
    text = Page(write_report(tmp_path / "i")).text
    for command in ("evaluate", "record", "replay"):
        assert re.search(f"torch-es {command} .*--import mine$", text, re.MULTILINE), command
    assert "i env.id=mine:Reach-v0" in text
    assert "torch-es record" not in Page(write_report(run)).text  # it has no config


@pytest.mark.parametrize("text", ["env: [", "- 1", ""])
def test_a_config_that_is_none_is_refused(text, run, tmp_path):
    shutil.copytree(run, tmp_path / "b")
    (tmp_path / "b" / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"b/config\.yaml` is not the config of a run"):
        write_report(tmp_path / "b")


def test_a_run_without_a_checkpoint_says_what_is_missing(run, tmp_path):
    shutil.copytree(run, tmp_path / "n")
    shutil.rmtree(tmp_path / "n" / "checkpoints")
    assert "it needs a checkpoint" in Page(write_report(tmp_path / "n")).text


def test_a_run_that_searches_actions_says_why_there_is_no_cosine(tmp_path):
    with ES(torch.nn.Linear(4, 2), "CartPole-v1", num_pairs=2, sigma=0, action_noise="sample", num_workers=0) as es:
        es.learn(50, folder=tmp_path / "a")
    assert "differ by their actions alone" in Page(write_report(tmp_path / "a")).text


def test_a_function_without_observations_has_a_page_too(tmp_path):
    layer = torch.nn.Linear(2, 1)
    with ES(layer, fitness_fn=lambda module: float(module.weight.sum()), num_pairs=2, num_workers=0, shaping=abs) as es:
        es.learn(20, folder=tmp_path / "f")
    page = Page(write_report(tmp_path / "f"))
    assert page.headings == [h for h in HEADINGS if h != "Observations"]
    assert "since a function of your own is not in the log" in page.text


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"it has no metrics\.jsonl"):
        write_report(tmp_path)


def test_the_command_writes_the_page(run, tmp_path):
    done = torch_es("report", str(run), "--out", "page.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "page.html\n"
    assert Page(tmp_path / "page.html").headings == HEADINGS
