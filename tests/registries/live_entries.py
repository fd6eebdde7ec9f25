"""Import OpenMMLab packages, and print what their registries hold then, as JSON."""

import importlib
import json
import sys

PARTS = ("models", "datasets", "engine", "evaluation", "visualization", "structures")


def main():
    for package in sys.argv[1:]:
        for part in ("", *(f".{part}" for part in PARTS)):
            try:
                importlib.import_module(package + part)
            except ModuleNotFoundError as error:
                # No such part, or one that wants a package which is not installed.
                if error.name.startswith(package) and error.name != package + part:
                    raise
    from mx_autopatch.registries.live import registries

    json.dump(
        [
            {
                "scope": registry.scope,
                "registry": registry.name,
                "root": registry.root.name,
                "names": registry.names,
                "name": entry.name,
                "module": getattr(entry.obj, "__module__", ""),
            }
            for registry in registries()
            for entry in registry.entries
        ],
        sys.stdout,
    )


if __name__ == "__main__":
    main()
