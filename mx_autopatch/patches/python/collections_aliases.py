"""The abstract base classes that ``collections`` itself used to offer.

Why: code of the OpenMMLab 1.x time says ``collections.Mapping`` or ``from collections
     import Iterable``; Python 3.10 took those names away.
How: each name is defined again, as the class of collections.abc, where it is missing.
Upstream: CPython issue 81505 (removed in 3.10).
Remove when: no project in use says collections.Mapping.
"""

import collections.abc

from mx_autopatch.model import Context, Define, Patch


def _of_abc(name: str) -> Define:
    def from_abc(context: Context) -> object:
        return getattr(collections.abc, name)

    return Define(f"collections:{name}", factory=from_abc)


# What collections forwarded to collections.abc until 3.9; later additions never were.
_NAMES = (
    *("Awaitable", "Coroutine", "AsyncIterable", "AsyncIterator", "AsyncGenerator"),
    *("Hashable", "Iterable", "Iterator", "Generator", "Reversible", "Sized", "Container"),
    *("Callable", "Collection", "Set", "MutableSet", "Mapping", "MutableMapping"),
    *("MappingView", "KeysView", "ItemsView", "ValuesView", "Sequence", "MutableSequence"),
)

PATCHES = (
    Patch(
        name="python.collections_aliases",
        edits=tuple(map(_of_abc, _NAMES)),
        requires=("python>=3.10",),
    ),
)
