"""mx_autopatch: run CUDA-written OpenMMLab models unmodified on NPUs and today's stack.

The public names are imported when they are first asked for (PEP 562): this module is
part of interpreter start-up, and imports nothing.
"""

__version__ = "0.1.0"

_HOME = {
    "Before": "model",
    "Call": "model",
    "Context": "model",
    "Define": "model",
    "During": "model",
    "NotNeeded": "model",
    "Outcome": "model",
    "Parent": "model",
    "Patch": "model",
    "Provide": "model",
    "Redirect": "model",
    "Register": "model",
    "Replace": "model",
    "Rewrite": "model",
    "Status": "model",
    "Stub": "model",
    "Subclasses": "model",
    "When": "model",
    "Wrap": "model",
    "AutopatchError": "errors",
    "CatalogError": "errors",
    "ConfigError": "errors",
    "PatchError": "errors",
    "SoftNpuError": "errors",
    "StubError": "errors",
    "TargetError": "errors",
    "Report": "engine.report",
    "activate": "bootstrap",
    "check_contract": "softnpu.contract",
    "deactivate": "bootstrap",
    "patch_mmcv_version": "patches.mmcv.version_gate",
    "register": "bootstrap",
    "report": "bootstrap",
    "revert": "bootstrap",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})
