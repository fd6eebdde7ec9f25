"""The API 2.0: attributes, registry entries, groups of them, and the Patcher that holds them."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.patcher import (
    AtomicPatch,
    BasePatch,
    LegacyPatch,
    Patch,
    Patcher,
    PatchResult,
    PatchStatus,
    RegistryPatch,
)

pytestmark = pytest.mark.usefixtures("studio")


def load(name: str) -> Any:
    return importlib.import_module(name)


def new_paint(x: Any) -> Any:
    return ("new", x)


# -- one attribute -------------------------------------------------------------------


def test_replaced_when_its_module_is_imported() -> None:
    patch = AtomicPatch("studio.tools.brush.dip", new_paint)
    with Patcher().add(patch):
        assert not patch.is_applied
        assert "studio" not in sys.modules
        from studio.tools.brush import dip  # type: ignore[import-not-found]

        assert dip is new_paint
        assert patch.is_applied
    assert not patch.is_applied
    assert load("studio.tools.brush").dip(1) == ("dip", ("paint", 1))


def test_methods_keep_their_kind_and_copies_follow() -> None:
    studio, brush = load("studio"), load("studio.tools.brush")
    with Patcher().add(
        AtomicPatch("studio.paint", new_paint),
        AtomicPatch("studio.Easel.hold", lambda self, x: ("held", type(self).__name__, x)),
        AtomicPatch("studio.Easel.fold", new_paint),
    ):
        assert studio.Easel().hold(1) == ("held", "Easel", 1)
        assert studio.Easel.fold(2) == studio.Easel().fold(2) == ("new", 2)
        assert isinstance(studio.Easel.__dict__["fold"], staticmethod)
        assert brush.dip(3) == ("dip", ("new", 3))
    assert brush.dip(3) == ("dip", ("paint", 3))


def test_a_replacement_may_be_named_and_wrapped() -> None:
    made = []

    def wrapper(function: Any) -> Any:
        made.append(function)
        return lambda x: ("wrapped", function(x))

    patch = AtomicPatch(
        "studio.Easel.fold",
        "studio.tools.brush.dip",
        aliases=["studio.Easel.hold"],
        replacement_wrapper=wrapper,
    )
    with Patcher().add(patch):
        studio = load("studio")
        assert "studio.tools.brush" in sys.modules  # imported when it was needed
        assert studio.Easel.fold(1) == ("wrapped", ("dip", ("paint", 1)))
        assert studio.Easel.hold is studio.Easel.fold
    assert len(made) == 1


def test_a_target_wrapper_gets_the_original_and_wrappers_stack() -> None:
    def around(word: str) -> Any:
        def wrap(original: Any) -> Any:
            def wrapper(self: Any, x: Any) -> Any:
                return (word, original(self, x))

            return wrapper

        return wrap

    studio = load("studio")
    original = studio.Easel.__dict__["hold"]
    inner = Patcher().add(AtomicPatch("studio.Easel.hold", target_wrapper=around("inner"))).apply()
    with Patcher().add(AtomicPatch("studio.Easel.hold", target_wrapper=around("outer"))):
        assert studio.Easel().hold(1) == ("outer", ("inner", ("hold", 1)))
        inner.revert()
        assert studio.Easel().hold(1) == ("outer", ("hold", 1))
    assert studio.Easel.__dict__["hold"] is original


def test_runtime_check_decides_and_the_replacements_error_is_the_callers(said: Any) -> None:
    calls = []

    def npu(x: int) -> Any:
        calls.append(x)
        raise RuntimeError("the device has said no")

    def big(x: int) -> bool:
        if x < 0:
            raise ValueError("negative")
        return x > 3

    with Patcher().add(AtomicPatch("studio.paint", npu, runtime_check=big)):
        studio = load("studio")
        assert studio.paint(1) == ("paint", 1)
        with pytest.raises(RuntimeError, match="the device has said no"):
            studio.paint(4)
        assert studio.paint(-1) == ("paint", -1)
    assert calls == [4]


def test_runtime_check_and_target_wrapper() -> None:
    patch = AtomicPatch(
        "studio.paint",
        target_wrapper=lambda original: lambda x: ("wrapped", original(x)),
        runtime_check=lambda x: x > 3,
    )
    with Patcher().add(patch):
        studio = load("studio")
        assert (studio.paint(1), studio.paint(4)) == (("paint", 1), ("wrapped", ("paint", 4)))


def test_precheck_gets_what_it_asks_for_and_when_it_is_needed(said: Any) -> None:
    asked: list[Any] = []

    def precheck(target: str, aliases: list[str], other: int = 0) -> bool:
        asked.append((target, aliases, "studio" in sys.modules))
        return False

    def broken() -> bool:
        raise KeyError("typo")

    with Patcher().add(
        AtomicPatch("studio.paint", new_paint, precheck=precheck),
        AtomicPatch("studio.not_there", new_paint, precheck=lambda: False),
        AtomicPatch("studio.Easel.hold", new_paint, precheck=broken),
        AtomicPatch("no_studio.paint", new_paint, precheck=lambda: False),
    ):
        assert not asked
        studio = load("studio")
        assert studio.paint(1) == ("paint", 1)
        assert studio.Easel().hold(1) == ("hold", 1)
    assert asked == [("studio.paint", [], True)]
    skipped = "INFO Skipped patch {} to module studio: its precheck is false"
    assert said.about("Skipped") == [
        "INFO Skipped patch no_studio.paint: its precheck is false",
        skipped.format("studio.paint"),
        skipped.format("studio.not_there"),
    ]
    (line,) = said.about("Failed")
    assert line.startswith(
        "WARNING Failed to apply patch studio.Easel.hold to module studio: it failed: "
        "studio:Easel.hold: its precheck failed: KeyError: 'typo' (test_patcher_attributes.py:"
    )


def test_aliases_are_other_places_never_a_second_layer(said: Any) -> None:
    calls = []

    def counting(original: Any) -> Any:
        def wrapper(*args: Any) -> Any:
            calls.append(args)
            return original(*args)

        return wrapper

    load("studio.tools.press")
    sys.modules["studio.tools.press"].kept = load("studio").paint  # type: ignore[attr-defined]
    with Patcher().add(
        AtomicPatch(
            "studio.paint",
            target_wrapper=counting,
            aliases=["studio.tools.brush.paint", "studio.tools.press.kept", "studio.tools.no.such"],
        ),
        AtomicPatch(
            "studio.Easel.hold",
            lambda self, x: "once",
            aliases=["studio.Easel.hold", "studio.tools.brush.Easel.hold"],
        ),
    ):
        studio = load("studio")
        assert studio.paint(1) == ("paint", 1)
        assert studio.tools.brush.dip(1) == ("dip", ("paint", 1))
        assert studio.tools.press.kept(1) == ("paint", 1)
        assert studio.Easel().hold(1) == "once"
        assert calls == [(1,)] * 3
    assert not said.about("Failed")
    assert not said.about("Skipped")
    studio.paint(2)
    assert calls == [(1,)] * 3


def test_a_target_that_is_not_there_is_a_failure_with_a_name(said: Any) -> None:
    with Patcher().add(
        AtomicPatch("studio.tools.brush.dipp", new_paint),
        AtomicPatch("studio.paint", "studio.tools.brush.nothing"),
        AtomicPatch("no_studio.Easel.hold", new_paint),
        AtomicPatch("studio", new_paint),
    ):
        load("studio.tools.brush")
    start = "WARNING Failed to apply patch"
    assert said.about("Failed") == [
        f"{start} no_studio.Easel.hold: module no_studio cannot be imported: "
        "No module named 'no_studio' (if it turns up, it is patched)",
        f"{start} studio: invalid target path 'studio': expected 'package.module.name'",
        f"{start} studio.tools.brush.dipp to module studio.tools.brush: target not found: "
        "studio.tools.brush:dipp: studio.tools.brush has no attribute 'dipp'",
        f"{start} studio.paint to module studio: target not found: studio:paint: "
        "studio.tools.brush.nothing: studio.tools.brush has no 'nothing' there",
    ]


def test_two_that_replace_one_target_conflict(said: Any) -> None:
    with Patcher().add(
        AtomicPatch("studio.paint", new_paint), AtomicPatch("studio.paint", lambda x: "other")
    ):
        assert load("studio").paint(1) == ("new", 1)
    (line,) = said.about("Failed")
    assert line.endswith(
        "target taken: studio:paint: studio.paint has been replaced by patch 'patcher.studio.paint'"
    )


def test_entries_of_mappings_are_targets() -> None:
    with Patcher().add(AtomicPatch("studio.tools.brush.BRUSHES._module_dict.Flat", int)):
        brush = load("studio.tools.brush")
        assert brush.BRUSHES._module_dict["Flat"] is int
    assert brush.BRUSHES._module_dict["Flat"] is brush.Flat


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"AtomicPatch\('a.b'\): give a replacement or"):
        AtomicPatch("a.b")
    with pytest.raises(ValueError, match="give module_cls or module_factory"):
        RegistryPatch("a.R")
    with pytest.raises(ValueError, match="a module_factory needs a name"):
        RegistryPatch("a.R", module_factory=int)
    with pytest.raises(ValueError, match="give target_module="):
        LegacyPatch(print)
    for wrong in (1, "x", int, print):
        with pytest.raises(TypeError, match="expected a Patch class or a patch, got"):
            Patcher().add(wrong)
    with pytest.raises(TypeError, match="expected a name, a Patch class or a patch"):
        Patcher().disable(int)


# -- registries and functions --------------------------------------------------------


def test_registry_patch_registers_and_takes_back() -> None:
    class Round:
        pass

    with Patcher().add(
        RegistryPatch("studio.tools.brush.BRUSHES", Round),
        RegistryPatch("studio.tools.brush.BRUSHES", name="Flat", module_factory=lambda: Round),
        RegistryPatch("studio.tools.brush.BRUSHES", Round, name="No", precheck=lambda name: False),
    ):
        brush = load("studio.tools.brush")
        assert brush.BRUSHES._module_dict == {"Flat": Round, "Round": Round}
    assert brush.BRUSHES._module_dict == {"Flat": brush.Flat}


def test_registry_patch_gives_way_without_force(said: Any) -> None:
    with Patcher().add(RegistryPatch("studio.tools.brush.BRUSHES", int, name="Flat", force=False)):
        brush = load("studio.tools.brush")
        assert brush.BRUSHES._module_dict["Flat"] is brush.Flat
    assert "'Flat' is registered already" in said.about("Failed")[0]


def test_legacy_patch_is_a_function_for_a_module() -> None:
    def _apply(module: Any, options: Any) -> None:
        module.Easel.hold = options["hold"]

    _apply.__patch_name__ = "easel"  # type: ignore[attr-defined]
    patch = LegacyPatch(_apply, {"hold": 7}, target_module="studio")
    assert (patch.name, patch.module) == ("easel", "studio")
    with Patcher().add(patch):
        assert load("studio").Easel.hold == 7
    assert callable(load("studio").Easel.hold)


# -- groups --------------------------------------------------------------------------


class Brushes(Patch):
    """A group as the documentation shows them."""

    @classmethod
    def patches(cls, options: Any = None) -> list[BasePatch]:
        word = (options or {}).get("word", "group")
        return [
            AtomicPatch("studio.paint", lambda x: (word, x)),
            AtomicPatch("studio.Easel.hold", cls._hold),
            AtomicPatch("studio.tools.brush.dip", cls._hold),
        ]

    @staticmethod
    def _hold(self: Any, x: Any = None) -> Any:
        return "held"


class Broken(Brushes):
    name = "broken_one"

    @classmethod
    def patches(cls, options: Any = None) -> list[BasePatch]:
        return [*super().patches(options), AtomicPatch("studio.Easel.nothing", 1)]


def test_a_group_is_named_after_its_class_and_takes_options() -> None:
    assert (Brushes.name, Broken.name) == ("Brushes", "broken_one")
    with Patcher().add(Brushes, options={"word": "opted"}):
        studio = load("studio")
        assert studio.paint(1) == ("opted", 1)
        assert studio.Easel().hold(2) == "held"
    assert studio.paint(1) == ("paint", 1)


def test_what_one_module_fires_of_a_group_applies_whole_or_not_at_all(said: Any) -> None:
    with Patcher().add(Broken):
        studio = load("studio")
        assert studio.paint(1) == ("paint", 1)
        assert studio.Easel().hold(2) == ("hold", 2)
    lines = said.about("Failed to apply patch broken_one to module studio:")
    assert any("studio:Easel.nothing" in line for line in lines)
    assert any("not applied, since studio:Easel.nothing could not be" in line for line in lines)


def test_single_patches_of_a_group_can_be_disabled() -> None:
    with Patcher().add(Broken).disable("studio.Easel.nothing", "studio.tools.brush.dip"):
        studio, brush = load("studio"), load("studio.tools.brush")
        assert studio.paint(1) == ("group", 1)
        assert brush.dip(1)[0] == "dip"


@pytest.mark.parametrize("how", [Brushes, "Brushes", Brushes()])
def test_disable_by_class_name_or_instance(how: Any, said: Any) -> None:
    with Patcher().add(Brushes).disable(how):
        assert load("studio").paint(1) == ("paint", 1)
    assert said.about("Skipped") == ["INFO Skipped patch Brushes: disabled"]


def test_disable_after_apply_takes_back() -> None:
    patcher = Patcher().add(Brushes, AtomicPatch("studio.Easel.fold", new_paint)).apply()
    studio = load("studio")
    patcher.disable(Brushes)
    assert studio.paint(1) == ("paint", 1)
    assert studio.Easel.fold(1) == ("new", 1)
    patcher.revert()
    assert studio.Easel.fold(1) == ("fold", 1)
    with Patcher().add(Brushes) as patcher:
        patcher.disable("studio.paint")
        assert studio.paint(1) == ("paint", 1)
        assert studio.Easel().hold(1) == "held"


def test_what_is_added_late_takes_effect_at_once() -> None:
    patcher = Patcher().apply()
    studio = load("studio")
    assert patcher.add(Brushes) is patcher
    assert studio.paint(1) == ("group", 1)
    patcher.apply()
    assert studio.paint(1) == ("group", 1)
    patcher.revert()
    assert studio.paint(1) == ("paint", 1)


def test_a_group_in_two_patchers_is_applied_once(said: Any) -> None:
    with Patcher().add(Brushes), Patcher().add(Brushes, Brushes):
        assert load("studio").paint(1) == ("group", 1)
    assert load("studio").paint(1) == ("paint", 1)
    assert not said.about("Failed")


def test_conflicts_are_refused_with_the_remedy(said: Any) -> None:
    class Other(Brushes):
        conflicts_with = ("Brushes",)

    patcher = Patcher().add(Brushes).add(Other)
    assert said.about("WARNING patches 'Other' and 'Brushes' conflict")
    with pytest.raises(ValueError, match=r"disable one of them: patcher.disable\('Other'\)"):
        patcher.apply()
    assert bootstrap.active() is None
    with patcher.disable(Brushes):
        assert load("studio").paint(1) == ("group", 1)


def test_a_group_that_cannot_be_collected_is_told(said: Any) -> None:
    class Bad(Patch):
        @classmethod
        def patches(cls, options: Any = None) -> list[BasePatch]:
            raise ImportError("no such project")

    class Empty(Patch):
        pass

    with Patcher().add(Bad, Empty, Brushes):
        assert load("studio").paint(1) == ("group", 1)
    assert said.about("Failed") == [
        "WARNING Failed to apply patch Bad: ImportError: no such project",
        "WARNING Failed to apply patch Empty: NotImplementedError: Empty has to define "
        "patches(options)",
    ]


def test_early_groups_come_before_others_are_asked() -> None:
    class Early(Brushes):
        apply_before_collect = True

    seen = []

    class Later(Patch):
        @classmethod
        def patches(cls, options: Any = None) -> list[BasePatch]:
            seen.append(load("studio").paint(1))
            return []

    with Patcher().add(Later, Early):
        assert seen == [("group", 1)]


# -- results -------------------------------------------------------------------------


def test_results_of_patches_that_apply_by_themselves() -> None:
    patch = AtomicPatch("studio.paint", new_paint)
    assert patch.apply() == PatchResult(PatchStatus.PENDING, "studio.paint", "studio", None)
    studio = load("studio")
    assert patch.apply() == PatchResult(PatchStatus.APPLIED, "studio.paint", "studio", None)
    assert studio.paint(1) == ("new", 1)
    missing = AtomicPatch("studio.missing", 1).apply()
    assert (missing.status, missing.reason) == (
        PatchStatus.FAILED,
        "studio has no attribute 'missing'",
    )
    skipped = AtomicPatch("studio.Easel", 1, precheck=lambda: False).apply()
    assert (skipped.status, skipped.reason) == (PatchStatus.SKIPPED, "its precheck is false")
    results = Brushes.apply_all({"word": "x"})
    assert [(r.name, r.status) for r in results] == [
        ("studio.paint", PatchStatus.FAILED),  # taken by the first one
        ("studio.Easel.hold", PatchStatus.FAILED),
        ("studio.tools.brush.dip", PatchStatus.PENDING),
    ]


def test_a_patch_class_of_the_users_own_applies_itself() -> None:
    class Own(BasePatch):
        applied = 0

        @property
        def name(self) -> str:
            return "own"

        def apply(self) -> PatchResult:
            self.applied += 1
            return PatchResult(PatchStatus.APPLIED, "own", "")

    own = Own()
    Patcher().add(own).apply().apply().revert()
    assert own.applied == 1


class Shapes(Patch):
    @classmethod
    def patches(cls, options: Any = None) -> list[BasePatch]:
        return [
            AtomicPatch("studio.Easel.hold", target_wrapper=lambda original: new_paint),
            AtomicPatch("studio.tools.brush.Flat", new_paint),
            AtomicPatch("studio.tools.brush.Registry", new_paint),
        ]


def test_print_info_shows_states_and_differences(said: Any) -> None:
    patcher = Patcher().add(
        AtomicPatch("studio.paint", new_paint),
        AtomicPatch("studio.tools.brush.dip", new_paint),
        AtomicPatch("studio.nothing", new_paint),
        RegistryPatch("studio.tools.brush.BRUSHES", int),
        AtomicPatch("studio.Easel", new_paint),
        Shapes,
    )
    patcher.disable("studio.Easel", "studio.tools.brush.Registry")
    with patcher:
        load("studio")
        assert patcher.print_info(diff=True) is patcher
    text = said.lines[-1]
    assert text.startswith("INFO studio: 8 patches\n")
    assert "[applied] studio.paint: paint -> new_paint\n" in text
    assert '+    return ("new", x)\n' in text
    assert "[pending] studio.tools.brush.dip: (not seen yet) -> new_paint" in text
    assert "[failed] studio.nothing: " in text
    assert "[pending] studio.tools.brush.BRUSHES <- int (int)" in text
    assert "[disabled] studio.Easel: " in text
    assert "[applied] studio.Easel.hold: Easel.hold -> " in text
    assert "[pending] studio.tools.brush.Flat: " in text
    assert "[disabled] studio.tools.brush.Registry: " in text
