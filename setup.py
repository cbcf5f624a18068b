"""What pyproject.toml cannot say: a wheel carries copies of files that lie beside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HOME = Path(__file__).parent
SHIPPED = ("configs", "docs/*.md", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE")  # bundle/common/home.py


class WithShippedFiles(build_py):
    """Put them into ``bundle/shipped``; an editable installation uses the checkout's own."""

    def run(self):
        """As setuptools does, and then copy."""
        super().run()
        if self.editable_mode:
            return
        shipped = Path(self.build_lib) / "bundle" / "shipped"
        shutil.rmtree(shipped, ignore_errors=True)
        for pattern in SHIPPED:
            for path in sorted(HOME.glob(pattern)):
                copy = shipped / path.relative_to(HOME)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)


setup(cmdclass={"build_py": WithShippedFiles})
