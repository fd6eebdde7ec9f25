"""``python -m mx_autopatch``."""

from mx_autopatch.cli import main

if __name__ == "__main__":
    main()
