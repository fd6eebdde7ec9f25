"""What the Patcher API does to imports: stubs, modules in others' places, missing names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import pytest

from mx_autopatch.errors import PatchError, StubError
from mx_autopatch.patcher import Patcher, TorchScatter, replace_with, with_imports

pytestmark = pytest.mark.usefixtures("studio")


def load(name: str) -> Any:
    return importlib.import_module(name)


# -- skip_import ---------------------------------------------------------------------


def test_skipped_modules_can_be_imported_but_not_used() -> None:
    patcher = Patcher()
    assert patcher.skip_import("cuda_attention", "cuda_scatter") is patcher
    with patcher:
        from cuda_attention.deep.path import anything  # type: ignore[import-not-found]

        cuda_scatter = load("cuda_scatter")

        class Derived(cuda_scatter.Function):  # type: ignore[misc, name-defined]
            """A stub may be inherited from."""

        spec = importlib.util.find_spec("cuda_attention")
        assert spec is not None
        assert spec.origin is not None
        with pytest.raises(StubError, match=r"cuda_attention.deep.path.anything was called, but"):
            anything(1)
        with pytest.raises(StubError, match=r"skip_import\('cuda_scatter'\)"):
            cuda_scatter.scatter_mean(1)
    assert "cuda_attention" not in sys.modules
    with pytest.raises(ModuleNotFoundError, match="No module named 'cuda_scatter'"):
        load("cuda_scatter")


def test_real_parents_stay_real_and_missing_ones_are_stubs() -> None:
    with Patcher().skip_import("studio.cuda.kernels", "no_studio.cuda.kernels"):
        assert load("studio.cuda.kernels").__name__ == "studio.cuda.kernels"
        assert load("studio").paint(1) == ("paint", 1)
        load("no_studio.cuda.kernels")
    for name in ("studio.cuda", "no_studio"):
        with pytest.raises(ModuleNotFoundError):
            load(name)


def test_it_works_from_the_call_on_and_again_in_a_second_block(said: Any) -> None:
    patcher = Patcher().skip_import("cuda_attention")
    load("cuda_attention")  # before apply()
    patcher.skip_import("cuda_attention")
    assert said.about("cuda_attention has been imported already; call this earlier")
    for _ in range(2):
        with patcher:
            load("cuda_attention")
        assert "cuda_attention" not in sys.modules


# -- replace_import ------------------------------------------------------------------


def test_another_module_answers_submodules_included(write: Callable[..., Any]) -> None:
    write({"cuda_studio/__init__.py": "raise RuntimeError('needs CUDA')"})
    with Patcher().replace_import("cuda_studio", "studio"):
        assert load("cuda_studio") is load("studio")
        assert load("cuda_studio.tools.brush") is load("studio.tools.brush")
    with pytest.raises(RuntimeError, match="needs CUDA"):
        load("cuda_studio")


@pytest.mark.parametrize(
    "how",
    [
        {"Kernel": 7},
        {"exports": {"Kernel": 7}},
        {"replacement": replace_with.module(Kernel=7)},
        {"replacement": replace_with.module("studio", Kernel=7)},
        {"base_module": "studio", "exports": {"Kernel": 7}},
    ],
)
def test_exports_take_the_place_of_a_module(how: dict[str, Any]) -> None:
    with Patcher().replace_import("studio.ops.cuda_op", **how):
        assert "studio" not in sys.modules
        from studio.ops.cuda_op import Kernel  # type: ignore[import-not-found]

        assert Kernel == 7
        module = load("studio.ops.cuda_op")
        assert module.__name__ == "studio.ops.cuda_op"
        has_base = "studio" in str(how)
        assert hasattr(module, "paint") is has_base
        if not has_base:
            with pytest.raises(AttributeError, match="put in the original's place by replace_im"):
                module.paint  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        load("studio.ops.cuda_op")


def test_replace_import_checks_its_arguments(said: Any) -> None:
    with pytest.raises(ValueError, match="two modules are given to answer"):
        Patcher().replace_import("a.b", "c", base_module="d")
    with pytest.raises(ValueError, match=r"given twice: \['X'\]"):
        Patcher().replace_import("a.b", exports={"X": 1}, X=2)
    load("studio")
    Patcher().replace_import("studio", "math")
    assert said.about("replace_import(studio): studio has been imported already")


def test_a_stub_gives_way_to_what_answers_in_earnest(write: Callable[..., Any]) -> None:
    write({"cuda_studio/__init__.py": "raise RuntimeError('needs CUDA')"})
    with Patcher().skip_import("cuda_studio").replace_import("cuda_studio.brush", "studio.tools"):
        assert load("cuda_studio.brush") is load("studio.tools")
        assert "stub" in repr(load("cuda_studio").anything)  # though there is a real one


def test_so_do_predefined_patches_that_provide_a_module() -> None:
    torch = pytest.importorskip("torch")
    with Patcher().skip_import("torch_scatter").add(TorchScatter):
        import torch_scatter

        index = torch.tensor([0, 1, 0])
        assert torch_scatter.scatter_sum(torch.ones(3), index).tolist() == [2, 1]
        with pytest.raises(StubError, match=r"skip_import\('torch_scatter'\) let it be imported"):
            torch_scatter.a_cuda_function()


# -- inject_import -------------------------------------------------------------------


def test_a_missing_name_is_added_when_the_module_is_imported(write: Callable[..., Any]) -> None:
    write({"studio/shop/__init__.py": "__all__ = []", "studio/shop/till.py": "class Till: pass"})
    with Patcher().inject_import("studio.shop.till", "Till", "studio.shop"):
        assert "studio" not in sys.modules
        from studio.shop import Till  # type: ignore[import-not-found]

        shop = load("studio.shop")
        assert (Till.__name__, shop.__all__) == ("Till", ["Till"])
    assert not hasattr(shop, "Till")
    assert shop.__all__ == []
    assert shop.till.Till is Till


def test_a_name_that_is_there_stays_and_one_that_is_nowhere_is_told(said: Any) -> None:
    studio = load("studio")
    paint = studio.paint
    with (
        Patcher()
        .inject_import("studio.tools.brush", "paint", "studio")
        .inject_import("studio.tools.brush", "nothing", "studio.tools")
        .inject_import("studio.tools.no_such", "x", "studio.tools")
    ):
        load("studio.tools")
        assert studio.paint is paint
    failed = said.about("Failed")
    assert [line.split(": ", 1)[1] for line in failed] == [
        "target not found: studio.tools.brush has no 'nothing'",
        "module cannot be imported: No module named 'studio.tools.no_such'",
    ]


# -- with_imports --------------------------------------------------------------------


def test_names_are_imported_at_the_first_call() -> None:
    @with_imports("studio.tools.brush", ("studio", "paint", "Easel"), ("math", "sqrt", "root"))
    def use(x: float) -> Any:
        return brush.dip(x), paint(x), Easel, root(x)  # type: ignore[name-defined]  # noqa: F821

    assert "studio" not in sys.modules
    studio = load("studio")
    assert use(4.0) == (("dip", ("paint", 4.0)), ("paint", 4.0), studio.Easel, 2.0)
    assert use.__name__ == "use"
    assert "brush" not in globals()


def test_closures_defaults_and_methods_are_kept() -> None:
    factor = 3

    class Holder:
        @staticmethod
        @with_imports("math")
        def static(x: float, y: int = 2, *, z: int = 5) -> float:
            return math.floor(x) * factor * y * z  # type: ignore[name-defined, no-any-return]  # noqa: F821

        @with_imports("math")
        @classmethod
        def of_class(cls) -> Any:
            return cls, math.pi  # type: ignore[name-defined]  # noqa: F821

    assert Holder.static(1.5) == 30
    assert Holder.static(1.5, z=1) == 6
    assert Holder.of_class()[0] is Holder


def test_decorator_expressions_are_applied_in_order(write: Callable[..., Any]) -> None:
    write(
        {
            "studio/marks.py": """
                def mark(word):
                    def decorate(f): return lambda *a, **k: (word, f(*a, **k))
                    return decorate
                def plain(f): return lambda *a, **k: ("plain", f(*a, **k))
            """
        }
    )

    @with_imports(
        ("studio.marks", "mark", "plain"),
        "@mark('outer')",
        "@plain",
        apply_decorators=[("studio.marks.mark", {"word": "legacy"}), ("studio.marks.plain", {})],
    )
    def f(x: int) -> int:
        return x

    assert f(1) == ("plain", ("legacy", ("outer", ("plain", 1))))


def test_stacked_with_imports_add_up() -> None:
    @with_imports("math")
    @with_imports(("os.path", "join"))
    def f() -> Any:
        return math.pi, join("a", "b")  # type: ignore[name-defined]  # noqa: F821

    assert f()[0] > 3


def test_what_is_missing_is_told_and_a_decorator_must_be_there(said: Any) -> None:
    @with_imports("no_such_module", ("math", "no_such_name"))
    def f() -> Any:
        return no_such_name  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(NameError):
        f()
    where = "WARNING with_imports on test_what_is_missing_is_told_and_a_decorator_must_be_there"
    assert said.lines == [
        f"{where}.<locals>.f: no_such_module cannot be imported: No module named 'no_such_module'",
        f"{where}.<locals>.f: math has no 'no_such_name'",
    ]

    @with_imports("@no_such_decorator()")
    def g() -> None:
        pass

    with pytest.raises(PatchError, match=r"decorator @no_such_decorator.*NameError"):
        g()
