import types

from torch_es.runs.recording import Recording


def test_checkpoints_are_as_far_apart_as_asked():
    saves = []
    folder = types.SimpleNamespace(path=None, record=lambda *_: None, save=lambda state: saves.append(now))
    run = Recording(folder, dict, every=10.0, seconds=0.0)
    for now in (4.0, 10.0, 14.0, 19.0, 20.0, 21.0):
        run.record({}, None, now)
    assert saves == [10.0, 20.0]
