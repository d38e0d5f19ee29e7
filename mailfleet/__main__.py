"""``python -m mailfleet`` is the ``mailfleet`` program."""

from mailfleet.cli import main

if __name__ == "__main__":
    main()
