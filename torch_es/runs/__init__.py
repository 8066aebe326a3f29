"""A run on disk: its folder, checkpoints, replay log and the machine it ran on."""
