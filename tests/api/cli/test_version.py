"""`annals --version` says what the changelog and the package say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from click.testing import CliRunner

from api.cli import main

ROOT = Path(__file__).parent.parent.parent.parent


def test_the_command_line_prints_the_version_of_the_package() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())
    printed = CliRunner().invoke(main, ["--version"])
    assert (printed.exit_code, printed.output) == (0, f"annals {package['project']['version']}\n")


def test_the_newest_release_of_the_changelog_is_the_version_of_the_package() -> None:
    headings = re.findall(r"^## \[(.*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert headings[:2] == ["Unreleased", package["project"]["version"]]
