import numpy as np

from torch_es.cli.video import write_video


def test_frames_become_a_video(tmp_path):
    frames = [np.full((64, 64, 3), i * 10, np.uint8) for i in range(10)]
    assert write_video(frames, tmp_path / "v.mp4", 30).stat().st_size > 500
