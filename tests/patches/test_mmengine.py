"""mmengine.checkpoint_load on the installed torch and mmengine."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from mx_autopatch import bootstrap

torch = pytest.importorskip("torch")
pytest.importorskip("mmengine.runner")

# torch's words, or those of torch_npu, which has a torch.load of its own.
REFUSED = "Weights only|Unsupported global"


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    import numpy as np
    from mmengine.config import Config
    from mmengine.logging import MessageHub

    hub = MessageHub("a hub")
    hub.update_scalar("train/loss", 1.0)
    hub.update_scalar("train/loss", 3.0)
    hub.update_info("best", np.float32(0.5))
    path = tmp_path / "epoch_1.pth"
    content = {"message_hub": hub.state_dict(), "cfg": Config({"a": {"b": 1}})}
    torch.save({**content, "state_dict": {"w": torch.ones(2)}}, path)
    return str(path)


def test_refused_without_loads_with(checkpoint: str, engine: Any) -> None:
    from mmengine.runner.checkpoint import load_checkpoint

    model = torch.nn.Module()
    model.register_parameter("w", torch.nn.Parameter(torch.zeros(2)))
    with pytest.raises(pickle.UnpicklingError, match=REFUSED):
        load_checkpoint(model, checkpoint)
    engine(patches__only=["mmengine.checkpoint_load"])
    loaded = load_checkpoint(model, checkpoint)
    assert torch.equal(model.w, torch.ones(2))
    scalars = loaded["message_hub"]["log_scalars"]
    assert scalars["train/loss"].mean() == 2.0
    assert loaded["message_hub"]["runtime_info"]["best"] == 0.5
    assert loaded["cfg"].a.b == 1
    bootstrap.deactivate()
    with pytest.raises(pickle.UnpicklingError, match=REFUSED):
        torch.load(checkpoint)


def test_an_explicit_value_of_the_caller_wins(checkpoint: str, tmp_path: Path, engine: Any) -> None:
    engine(patches__only=["mmengine.checkpoint_load"])
    path = tmp_path / "own.pth"
    torch.save({"x": Path("somewhere")}, path)  # no class of mmengine
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert torch.load(path, weights_only=False) == {"x": Path("somewhere")}
    assert torch.load(checkpoint, weights_only=True)["cfg"].a.b == 1


class _Asks:
    """A checkpoint that asks for attributes of other objects, as an attack would."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> Any:
        return getattr, self.arguments


@pytest.mark.parametrize("attribute", ["__init__", "__globals__", "_set_default_statistics"])
def test_getattr_is_answered_for_the_history_alone(
    tmp_path: Path, engine: Any, attribute: str
) -> None:
    from mmengine.logging import HistoryBuffer

    engine(patches__only=["mmengine.checkpoint_load"])
    for owner in (HistoryBuffer, torch.Tensor, torch.nn.Parameter):
        path = tmp_path / "attack.pth"
        torch.save({"x": _Asks(owner, attribute)}, path)
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path)


def test_what_others_allowed_stays_allowed(engine: Any) -> None:
    with torch.serialization.safe_globals([Path]):
        before = set(torch.serialization.get_safe_globals())
        engine(patches__only=["mmengine.checkpoint_load"])
        assert set(torch.serialization.get_safe_globals()) > before
        bootstrap.deactivate()
        assert set(torch.serialization.get_safe_globals()) == before
