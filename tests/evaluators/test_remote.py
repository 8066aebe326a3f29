"""Starting a worker leaves the parent as it was, from whatever thread, and on platforms that have less than Linux."""

import os
import subprocess
import sys
import textwrap
import threading
import time

from helpers import Stepper

from torch_es import ES, mlp

HERE = os.path.dirname(os.path.dirname(__file__))


def script(code, tmp_path):
    """Run a script of the user's, whose `__main__` workers must not run again."""
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(code))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), HERE, os.environ.get("PYTHONPATH", "")])}
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_threads_that_train_leave_main_and_variables_alone(tmp_path):
    code = """
        import contextlib, os, sys, threading, time
        from torch_es import ES, mlp
        from torch_es.evaluators import remote
        from helpers import Stepper

        without_main = remote._without_main

        @contextlib.contextmanager
        def slowly():
            with without_main():
                time.sleep(0.3)  # in which another thread would start
                yield

        remote._without_main = slowly
        main, errors = sys.modules["__main__"], []

        def train():
            try:
                with ES(mlp(3, 1), Stepper, num_pairs=2, num_workers=1) as es:
                    es.evaluator()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=train) for _ in range(2)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(sys.modules["__main__"] is main, os.environ.get("OMP_NUM_THREADS"), errors)
    """
    assert script(code, tmp_path) == "True None []\n"


def test_workers_outlive_the_thread_that_started_them():
    with ES(mlp(3, 1), Stepper, num_pairs=2, num_workers=1) as es:
        thread = threading.Thread(target=es.learn, args=(20,))
        thread.start()
        thread.join()
        time.sleep(0.3)
        assert len(es.evaluate(2)) == 2
        assert es.evaluator().restarts == 0


def test_an_id_that_the_script_alone_knows_is_played_by_workers(tmp_path):
    code = """
        import gymnasium as gym
        from gymnasium.envs.registration import WrapperSpec
        from torch_es import ES, mlp
        from helpers import Stepper

        class Own(Stepper):
            pass

        class Shorter(gym.Wrapper):
            def __init__(self, env, by):
                super().__init__(env)
                self.left = env.unwrapped.length - by

            def step(self, action):
                self.left -= 1
                observation, reward, _, *rest = super().step(action)
                return observation, reward, self.left <= 0, *rest

        wrapper = WrapperSpec("Shorter", "__main__:Shorter", {"by": 3})
        gym.register("Class-v0", Own, max_episode_steps=3)
        gym.register("String-v0", "__main__:Own", max_episode_steps=4)
        gym.register("Wrapped-v0", Own, additional_wrappers=(wrapper,))
        for name in ("Class-v0", "String-v0", "Wrapped-v0"):
            for env in (name, lambda: gym.make(name)):
                with ES(mlp(3, 1), env, num_workers=1) as es:
                    print(es.evaluate(1)[0].length)
    """
    assert script(code, tmp_path) == "3\n3\n4\n4\n2\n2\n"


# what Windows or macOS lack of Linux, each taken away from the parent and from its workers
LESS = """
    import ctypes, faulthandler, os, select, signal, sys
    for module in ("fcntl", "resource"):
        sys.modules[module] = None
    for place, names in (
        (signal, ("SIGUSR1", "SIGUSR2", "pthread_sigmask")),
        (os, ("setpgrp", "killpg", "sched_getaffinity")),
        (select, ("poll",)),
        (faulthandler, ("register",)),
    ):
        for name in names:
            delattr(place, name)
    whole = ctypes.CDLL

    class CDLL(whole):
        def __init__(self, name, *arguments, **options):
            if name is None:
                raise TypeError("the process itself is no library, as on Windows")
            super().__init__(name, *arguments, **options)

    ctypes.CDLL = CDLL
"""


def test_workers_train_where_the_platform_has_less(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(LESS))  # every interpreter begins with it
    code = """
        import signal, sys
        import torch
        from torch_es import ES, mlp
        from helpers import Stepper
        thetas = []
        for num_workers in (0, 2):
            with ES(mlp(3, 1, seed=0), Stepper, num_pairs=4, num_workers=num_workers) as es:
                es.learn(120, folder=f"{sys.argv[0]}-{num_workers}", checkpoint_every=1e-9)
                thetas.append(es.strategy.theta)
        print(hasattr(signal, "SIGUSR2"), torch.equal(*thetas))
    """
    assert script(code, tmp_path) == "False True\n"
