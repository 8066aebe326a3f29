import numpy as np

from torch_es.cli import video
from torch_es.cli.video import write_video


def test_frames_become_a_video(tmp_path):
    frames = [np.full((64, 64, 3), i * 10, np.uint8) for i in range(10)]
    assert write_video(frames, tmp_path / "v.mp4", 30).stat().st_size > 500


def test_a_recording_without_an_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_GIVEN_UP", 0.01)
    assert video.record_apart(tmp_path) == "none: recording was given up after 0.01 seconds"
