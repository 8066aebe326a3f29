"""The words of a command line, checked before anything is composed, written or started."""

import pytest

from torch_es.cli import config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env=hoper", "`env` has no option `hoper`. Did you mean `hopper`"),
        ("env=HOPPER", "Did you mean `hopper`"),
        ("env=hopper,swimer", "`env` has no option `swimer`. Did you mean `swimmer`"),
        ("strategy.sgma=1", "`strategy.sgma` is not a key of the config. Did you mean `strategy.sigma`"),
        ("sed=1", "`sed` is not a key of the config. Did you mean `seed`"),
        ("seed", "An override looks like KEY=VALUE"),
        ("+total_timestep=5", "`total_timestep` is not a key of the config. Did you mean `total_timesteps`"),
        ("++episods=3", "`episods` is not a key of the config. Did you mean `episode`"),
        ("+env.kwarg.x=3", "Did you mean `env.kwargs`"),
        ("+logger.run=3", "`logger.run` is not a key of the config"),
        ("optimizer.lrr=1", "`optimizer.lrr` is not an argument of torch.optim.Adam. Did you mean `optimizer.lr`"),
        ("optimizer.betas=[0.9,0.9]", r"argument takes a plus: `\+optimizer.betas=\[0.9,0.9\]`"),
        ("env.kwargs.foo=1", r"`env.kwargs.foo` is not in the config. .* plus: `\+env.kwargs.foo=1`"),
    ],
)
def test_a_wrong_key_or_option_names_the_nearest(override, message):
    with pytest.raises(ValueError, match=message):
        config.compose_config([override])


def test_a_wrong_argument_is_one_of_the_optimizer_that_is_named():
    with pytest.raises(ValueError, match=r"not an argument of torch.optim.SGD. Did you mean `optimizer.momentum`"):
        config.compose_config(["optimizer.name=SGD", "optimizer.momentun=1"])


@pytest.mark.parametrize("override", ["video=no", "policy.normalize_observations=off", "++video=1", "video=true,no"])
def test_what_is_neither_true_nor_false_is_refused(override):
    with pytest.raises(TypeError, match="must be true or false, got "):
        config.check_overrides([override])


def test_new_arguments_go_where_somebody_checks_them():
    added = ["+env.kwargs.foo=1", "+optimizer.betas=[0.9,0.9]", "logger=wandb", "+logger.run_id=a", "video=${policy.x}"]
    config.check_overrides(
        [*added, "+policy.x=true", "+strategy.population_size=4", "hydra.job.chdir=true", "video=true,false"]
    )
