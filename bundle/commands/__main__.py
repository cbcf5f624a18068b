"""``python -m bundle.commands``: the command ``virtual-staining`` where it is not installed."""

from bundle.commands.main import main

if __name__ == "__main__":
    main()
