"""What a machine is called."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from gradscape import _machine


def test_a_processor_is_named_by_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(_machine, "Path", lambda name: cpuinfo)
    assert _machine.processor() == (platform.processor() or platform.machine())  # no such file
    cpuinfo.write_text("processor\t: 0\nmodel name\t: AMD EPYC\nprocessor\t: 1\nmodel name\t: other\n")
    assert _machine.processor() == "AMD EPYC"
