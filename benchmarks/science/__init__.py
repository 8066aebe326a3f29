"""The comparison of the announcement of ES with reinforcement learning, run again: `make reproduce`.

A job is an arm of an experiment on a task with a seed. `jobs` says what one is and `experiments` lists them all.
`training` is the loop of every job that learns, with `evolution` or with the `baselines`. `page` writes the tables of
`summaries`, which `curves` computes, and the `figures`.
"""
