"""The loop learns, ends in time, and does the same on two processes as on one."""

import math
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tiny import FEATURES, PIXELS, SSM_PIXELS, Textures, run_python
from unmask.detectors import Detector, build, find, make
from unmask.errors import SettingError
from unmask.training.clock import schedule
from unmask.training.trainer import Trainer, Training, generator_for

BOTH = [{**FEATURES, "stage1_steps": 4, "stage2_steps": 4}, {**PIXELS, "stage2_steps": 4}]


class Regression(nn.Module):
    """A module that returns its loss, as the loop wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)
        self.losses: list[float] = []

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        loss = ((self.line(x).float()[:, 0] - y) ** 2).mean()
        self.losses.append(float(loss.detach()))
        return loss


def points(step: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(32, 3, generator=generator_for(0, "points", step))
    return x, x @ torch.tensor([1.0, -2.0, 0.5]) + 3


def learn(training: Training, steps: int = 30, lr: float = 0.2) -> Regression:
    module = Regression()
    Trainer(training).run("stage 1", module, points, steps=steps, lr=lr)
    return module


def cpu(**more: Any) -> Training:
    return Training(device="cpu", **more)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten().float() for value in module.state_dict().values()])


# --- the loop --------------------------------------------------------------------------------------------------------


def test_the_loss_falls() -> None:
    losses = learn(cpu(), steps=80).losses
    assert len(losses) == 80
    assert sum(losses[-5:]) < 0.05 * sum(losses[:5])


@pytest.mark.parametrize(
    ("position", "wanted"),
    [
        (0.0, 0.01 / 0.11),
        (0.05, 0.06 / 0.11 * 0.5 * (1 + math.cos(0.05 * math.pi))),
        (0.1, 0.5 * (1 + math.cos(0.1 * math.pi))),
        (0.5, 0.5),
        (1.0, 0.0),
        (1.3, 0.0),
    ],
)
def test_the_learning_rate_rises_then_follows_a_cosine(position: float, wanted: float) -> None:
    assert schedule(position, 0.1) == pytest.approx(wanted, abs=1e-12)


def test_only_matrices_decay() -> None:
    """Without a gradient AdamW's step is the decay alone."""
    module = nn.Module()
    module.matrix, module.vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    module.forward = lambda x: 0.0 * (module.matrix.sum() + module.vector.sum() + x.sum())
    Trainer(cpu()).run("stage 1", module, lambda step: (torch.ones(1),), steps=1, lr=0.1, weight_decay=0.5, warm_up=0.0)
    torch.testing.assert_close(module.matrix.detach(), torch.full((2, 2), 1 - 0.1 * 0.5))
    assert torch.equal(module.vector.detach(), torch.ones(2))


def test_progress_is_told_of_every_step() -> None:
    told: list[tuple[str, int, int, float]] = []
    learn(cpu(progress=lambda *state: told.append(state)), steps=4)
    assert [state[:3] for state in told] == [("stage 1", min(i, 4), 4) for i in range(1, 6)]
    assert all(state[3] >= 0 for state in told)
    assert told[-1][3] == 0


def test_no_steps_leave_everything_as_it_was() -> None:
    assert torch.equal(weights(learn(cpu(), steps=0)), torch.zeros(4))


def test_the_time_limit_holds() -> None:
    module, start = Regression(), time.monotonic()

    def slow_points(step: int) -> tuple[Tensor, Tensor]:
        time.sleep(0.01)
        return points(step)

    Trainer(cpu(max_minutes=0.5 / 60)).run("stage 1", module, slow_points, steps=100_000, lr=0.2)
    assert 0.4 < time.monotonic() - start < 3
    assert 5 < len(module.losses) < 60
    assert module.losses[-1] < 0.2 * module.losses[0], "the schedule is squeezed, so even a short fit ends well"


def test_random_numbers_depend_on_the_seed_and_the_purpose_alone() -> None:
    def first(seed: int, *what: object) -> float:
        return float(torch.rand(1, generator=generator_for(seed, *what)))

    assert first(0, "a", 1) == first(0, "a", 1)
    assert len({first(seed, what, step) for seed in (0, 1) for what in "ab" for step in (0, 1)}) == 8


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"device": "tpu"}, "tpu"),
        ({"devices": 0}, "0"),
        ({"nodes": -1}, "-1"),
        ({"max_minutes": 0}, "max-minutes"),
        ({"max_minutes": math.nan}, "max-minutes"),
        ({"resume": True}, "without checkpoints"),
    ],
    ids=str,
)
def test_a_wrong_training_is_one_line(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said) as caught:
        Training(**wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_absent_device_is_one_line() -> None:
    with pytest.raises(SettingError, match="cuda") as caught:
        Trainer(Training(device="cuda"))
    assert "\n" not in str(caught.value)


def test_nothing_is_said_that_was_not_asked(capfd: pytest.CaptureFixture[str]) -> None:
    learn(cpu(), steps=2)
    assert capfd.readouterr() == ("", "")


def fit(settings: dict[str, Any], training: Training, name: str = "isstad") -> Detector:
    detector = make(name, "fast", settings)
    with warnings.catch_warnings(action="ignore"):
        detector.fit(Textures(12), training)
    return detector


def test_a_precise_trainer_uses_no_bfloat16() -> None:
    seen = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            seen.append((x.dtype, self.layer(x).dtype))
            return self.layer(x).mean()

    Trainer(cpu(), precise=True).run("spy", Spy(), lambda step: (torch.ones(2, 2),), steps=1, lr=0.1)
    assert seen == [(torch.float32, torch.float32)]


# --- two processes ---------------------------------------------------------------------------------------------------

DRIVER = """
import os, sys, torch
from test_training import fit_both

if __name__ == "__main__":
    decoders = fit_both(devices=2)
    torch.save(decoders, f"{os.environ['LOCAL_RANK']}.pt")
"""


def fit_both(devices: int) -> list[Tensor]:
    """The decoder's weights in both spaces, all in one."""
    return [weights(fit(settings, cpu(devices=devices)).get_submodule("decoder")) for settings in BOTH]


def test_two_processes_learn_together_what_one_learns(tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(DRIVER, encoding="utf-8")
    done = run_python("driver.py", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for settings, together, other, alone in zip(BOTH, first, second, fit_both(devices=1), strict=True):
        before = weights(build(find("isstad"), "fast", settings).get_submodule("decoder"))
        assert torch.equal(together, other)
        learned = (alone - before).norm()
        assert learned > 0.1
        assert (together - alone).norm() < 0.1 * learned, "up to the rounding of half precision"


def parameters(module: nn.Module) -> Tensor:
    """Without the running means of batch norm, which each process keeps for itself after the last step."""
    return torch.cat([value.detach().flatten() for value in module.parameters()])


SSM_DRIVER = """
import os, torch
from test_training import SSM_PIXELS, cpu, fit, parameters

if __name__ == "__main__":
    net = fit(SSM_PIXELS, cpu(devices=2), "ssm").get_submodule("restorer.net")
    torch.save(parameters(net), f"{os.environ['LOCAL_RANK']}.pt")
"""


def test_two_processes_learn_the_same_restoration(tmp_path: Path) -> None:
    """Batch norm sees half a batch in each, so they are equal to each other, not to one process."""
    (tmp_path / "driver.py").write_text(SSM_DRIVER, encoding="utf-8")
    done = run_python("driver.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(first, second)
    start = build(find("ssm"), "fast", SSM_PIXELS).get_submodule("restorer.net")
    assert not torch.equal(first, parameters(start)), "and they learned something"
