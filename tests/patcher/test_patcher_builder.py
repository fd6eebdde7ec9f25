"""The API 1.0: patch functions, collected by a builder, in force in a ``with`` block."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.patcher import Patch, Patcher, PatcherBuilder, default_patcher_builder, msda
from mx_autopatch.patcher.patcher import PatcherBuilder as ByItsOldPlace

pytestmark = pytest.mark.usefixtures("studio")


def load(name: str) -> Any:
    return importlib.import_module(name)


def repaint(studio: Any, options: dict[str, Any]) -> None:
    """As the documentation writes them: an attribute of the module, one of a class, one below."""
    studio.paint = lambda x: ("repainted", options.get("colour"), x)
    studio.Easel.hold = lambda self, x: ("rehold", x)
    studio.tools.brush.dip = lambda x: ("redip", x)
    studio.tools.brush.BRUSHES.register_module("Round", int)


def test_nothing_is_imported_and_everything_is_patched_on_import() -> None:
    builder = PatcherBuilder().add_module_patch("studio", Patch(repaint, {"colour": "red"}))
    with builder.build() as patcher:
        assert isinstance(patcher, Patcher)
        assert patcher.is_applied
        assert "studio" not in sys.modules
        studio = load("studio")
        assert "studio.tools.brush" in sys.modules  # the function has asked for it
        assert studio.paint(1) == ("repainted", "red", 1)
        assert studio.Easel().hold(2) == ("rehold", 2)
        assert load("studio.tools.brush").dip(3) == ("redip", 3)
    assert not patcher.is_applied


def test_leaving_the_block_gives_every_object_back() -> None:
    studio, brush = load("studio"), load("studio.tools.brush")
    before = studio.paint, studio.Easel.__dict__["hold"], brush.dip, brush.paint
    entries = dict(brush.BRUSHES._module_dict)
    names = set(vars(studio)), set(vars(brush))
    with PatcherBuilder().add_module_patch("studio", Patch(repaint)).build():
        assert brush.paint(1) == ("repainted", None, 1)  # a copy made before
        assert set(brush.BRUSHES._module_dict) == {"Flat", "Round"}
    after = studio.paint, studio.Easel.__dict__["hold"], brush.dip, brush.paint
    assert all(one is other for one, other in zip(before, after))
    assert brush.BRUSHES._module_dict == entries
    assert (set(vars(studio)), set(vars(brush))) == names
    assert bootstrap.active() is None  # started for the block alone


def test_what_an_import_does_by_itself_stays() -> None:
    def use_the_press(studio: Any, options: Any) -> None:
        importlib.import_module("studio.tools.press")
        studio.tools.press.Press.weight = 3

    with PatcherBuilder().add_module_patch("studio", Patch(use_the_press)).build():
        studio = load("studio")
        assert studio.tools.press.Press.weight == 3
    # Its module stays loaded, hence so does what it registered; the attribute was ours.
    assert set(studio.tools.brush.BRUSHES._module_dict) == {"Flat", "Press"}
    assert not hasattr(studio.tools.press.Press, "weight")
    assert sys.modules["studio.tools.press"] is studio.tools.press


def test_a_function_that_fails_half_way_has_changed_nothing(said: Any) -> None:
    def half(studio: Any, options: Any) -> None:
        studio.Easel = None
        studio.tools.brush.dip = None
        raise RuntimeError("enough")

    studio = load("studio")
    with PatcherBuilder().add_module_patch("studio", Patch(half)).build():
        assert studio.Easel().hold(1) == ("hold", 1)
        assert studio.tools.brush.dip(1) == ("dip", ("paint", 1))
    (line,) = said.about("half")
    assert line.startswith("WARNING Failed to apply patch half to module studio: it failed: ")
    assert "RuntimeError: enough (test_patcher_builder.py:" in line


@pytest.mark.parametrize("loaded", [False, True])
def test_priority_orders_within_a_module(loaded: bool) -> None:
    order: list[str] = []

    def patch(name: str, priority: int) -> Patch:
        def function(module: Any, options: Any) -> None:
            order.append(name)

        function.__name__ = name
        return Patch(function, priority=priority)

    if loaded:
        load("studio")
    builder = PatcherBuilder()
    builder.add_module_patch("studio", patch("z", 0), patch("c", 5), patch("a", 0))
    builder.add_module_patch("studio", patch("first", -1), patch("b", 5))
    with builder.build():
        load("studio")
    assert order == ["first", "z", "a", "c", "b"]
    order.clear()
    with Patcher({"studio": [patch("late", 2), patch("early", 1)]}, set()):
        load("studio")
    assert order == ["early", "late"]


def test_patcher_takes_one_patch_or_several_and_a_blacklist(said: Any) -> None:
    def no(studio: Any, options: Any) -> None:
        raise AssertionError("it is disabled")

    def yes(studio: Any, options: Any) -> None:
        studio.Easel = options["easel"]

    with Patcher({"studio": Patch(yes, {"easel": 1}), "studio.tools": [Patch(no)]}, {"no"}):
        assert load("studio").Easel == 1
        load("studio.tools")
    assert said.about("no:") == ["INFO Skipped patch no: disabled"]


def test_apply_without_a_block_and_as_often_as_one_likes() -> None:
    calls = []

    def wrap(studio: Any, options: Any) -> None:
        calls.append(1)
        original = studio.paint
        studio.paint = lambda x: ("wrapped", original(x))

    builder = PatcherBuilder().add_module_patch("studio", Patch(wrap))
    patcher = builder.build()
    assert patcher.apply() is patcher
    studio = load("studio")
    patcher.apply().apply()
    with builder.build().apply(), builder.build():  # other patchers with the same patch
        assert studio.paint(1) == ("wrapped", ("paint", 1))
    assert calls == [1]
    assert studio.paint(1) == ("wrapped", ("paint", 1))  # the first patcher still holds it
    patcher.revert()
    assert studio.paint(1) == ("paint", 1)
    with patcher:
        assert studio.paint(1) == ("wrapped", ("paint", 1))
    assert studio.paint(1) == ("paint", 1)


def test_whether_a_patch_is_in_force(engine: Any) -> None:
    patch, predefined = Patch(repaint), Patch(msda)
    assert not patch.is_applied
    assert bootstrap.active() is None  # asking starts nothing
    with PatcherBuilder().add_module_patch("studio", patch, predefined).build():
        assert not patch.is_applied
        load("studio")
        assert patch.is_applied
        # Its module may have been imported by another test, and then it is in force.
        assert predefined.is_applied is ("mmcv.ops.multi_scale_deform_attn" in sys.modules)
    assert not patch.is_applied


def test_patches_of_one_function_are_told_apart_by_their_options() -> None:
    def define(studio: Any, options: Any) -> None:
        setattr(studio, options["name"], 1)

    builder = PatcherBuilder().add_module_patch(
        "studio", Patch(define, {"name": "a"}), Patch(define, {"name": "b"})
    )
    with builder.build():
        studio = load("studio")
        assert (studio.a, studio.b) == (1, 1)
    assert not hasattr(studio, "a")
    assert not hasattr(studio, "b")


# -- failures are told, and are not the end ------------------------------------------


def test_a_module_and_a_target_that_are_missing_are_told_apart(said: Any) -> None:
    def no_target(studio: Any, options: Any) -> None:
        if not hasattr(studio.tools.brush, "gpu_paint"):
            raise AttributeError("studio.tools.brush.gpu_paint not found")

    def no_submodule(studio: Any, options: Any) -> None:
        studio.tools.absent.paint = 1

    def no_library(studio: Any, options: Any) -> None:
        import a_cuda_library  # type: ignore[import-not-found]  # noqa: F401

    builder = PatcherBuilder()
    builder.add_module_patch("studio", Patch(no_target), Patch(no_submodule), Patch(no_library))
    builder.add_module_patch("absent.studio", Patch(no_target))
    with builder.build():
        load("studio")
    start = "WARNING Failed to apply patch"
    assert said.about("Failed") == [
        f"{start} no_target: module absent.studio cannot be imported: No module named 'absent' "
        "(if it turns up, it is patched)",
        f"{start} no_target to module studio: target not found: "
        "studio.tools.brush.gpu_paint not found",
        f"{start} no_submodule to module studio: target not found: module 'studio.tools' has no "
        "attribute 'absent', nor a submodule of that name",
        f"{start} no_library to module studio: module cannot be imported: "
        "No module named 'a_cuda_library'",
    ]


def test_a_module_that_turns_up_later_is_patched(write: Any) -> None:
    def patch(late: Any, options: Any) -> None:
        late.value = 2

    with PatcherBuilder().add_module_patch("late_studio.room", Patch(patch)).build():
        write({"late_studio/__init__.py": "", "late_studio/room.py": "value = 1"})
        assert load("late_studio.room").value == 2


def test_failures_need_not_be_told(said: Any) -> None:
    def fail(studio: Any, options: Any) -> None:
        raise AttributeError("no such thing")

    with Patcher({"studio": Patch(fail, patch_failure_warning=False)}, set()):
        load("studio")
    assert not said.about("Failed")


def test_each_applied_patch_says_what_and_where_once(said: Any) -> None:
    patcher = PatcherBuilder().add_module_patch("studio", Patch(repaint)).build().apply()
    load("studio")
    patcher.apply()
    assert said.about("Applied") == [
        "INFO Applied patch repaint to module studio "
        "(studio.paint, Easel.hold, studio.tools.brush.dip, dict['Round'])"
    ]


def test_a_submodule_that_breaks_is_the_patch_s_failure_not_the_users(
    write: Callable[..., Any], said: Any
) -> None:
    write({"studio/tools/broken.py": "import not_there_at_all"})

    def ask(studio: Any, options: Any) -> None:
        studio.tools.broken.x = 1

    with PatcherBuilder().add_module_patch("studio", Patch(ask)).build():
        load("studio")
    (line,) = said.about("ask")
    assert line.endswith("module cannot be imported: No module named 'not_there_at_all'")


# -- the builder ---------------------------------------------------------------------


def test_the_builder_chains_and_keeps_what_it_has_built() -> None:
    builder = PatcherBuilder()
    assert builder.add_module_patch("studio") is builder
    assert builder.disable_patches("x", "y") is builder
    assert builder.with_profiling("traces", 1, skip_first=3) is builder
    assert builder.brake_at(5) is builder
    assert builder.with_brake(0) is builder
    assert builder.blacklist == {"x", "y"}
    assert ByItsOldPlace is PatcherBuilder
    with pytest.raises(ValueError, match=r"level=3: expected 0, 1 or 2"):
        builder.with_profiling("traces", 3)
    with pytest.raises(TypeError, match=r"expected Patch\(function\), got <function repaint"):
        builder.add_module_patch("studio", repaint)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a function, got 'repaint'"):
        Patch("repaint")  # type: ignore[arg-type]


def test_a_function_of_the_user_may_be_named_as_a_predefined_one() -> None:
    def index(studio: Any, options: Any) -> None:
        studio.mine = True

    with PatcherBuilder().add_module_patch("studio", Patch(index)).build():
        assert load("studio").mine


def test_the_default_builder_holds_the_predefined_patches() -> None:
    names = {p.name for ps in default_patcher_builder.module_patches.values() for p in ps}
    assert names == {
        *("msda", "dc", "mdc", "spconv3d", "stream", "ddp", "resnet_add_relu", "resnet_maxpool"),
        *("numpy_type", "nuscenes_dataset", "nuscenes_metric", "index", "batch_matmul"),
    }


def test_a_predefined_patch_is_on_for_the_block(said: Any) -> None:
    with PatcherBuilder().add_module_patch("mmcv", Patch(msda)).build():
        finder = bootstrap.active()
        assert finder is not None
        session = finder.session
        assert session is not None
        assert session.is_on("mmcv.msda")
        assert not session.is_on("mmcv.nms")  # the engine was started for what is asked for
    assert bootstrap.active() is None


def test_where_the_engine_is_on_the_builder_leaves_it_as_it_was(engine: Any) -> None:
    engine()
    finder = bootstrap.active()
    assert finder is not None
    session = finder.session
    assert session is not None
    builder = PatcherBuilder().add_module_patch("mmcv", Patch(msda)).disable_patches("dc")
    assert session.is_on("mmcv.deform_conv2d")
    with builder.build():
        assert session.is_on("mmcv.msda")
        assert not session.is_on("mmcv.deform_conv2d")
    assert session.is_on("mmcv.msda")
    assert session.is_on("mmcv.deform_conv2d")
    assert bootstrap.active() is finder
